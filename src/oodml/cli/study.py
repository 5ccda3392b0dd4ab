"""`oodml study …`: run studies and see their state and results."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from oodml.cli import shared
from oodml.cli.shared import Count, File, Number, Text, Words, argument, many, option
from oodml.errors import OodmlError

if TYPE_CHECKING:
    import pandas as pd

    from oodml.study.folder.status import Status
    from oodml.study.spec.study_file import Study

T = TypeVar("T")

WORKERS = min(4, os.cpu_count() or 1)
training, cluster = partial(option, panel="Runs"), partial(option, panel="Cluster")
_STUDY = "Study: its file (TOML), or a shipped one, shipped:NAME."
_FOLDER = "Images: a folder or a table."
_ON = "Where to run: local, ray, ray://HOST:PORT, slurm, or slurm:local."
_JOB = """Slurm option under its submitit name, such as slurm_partition=gpu, or resource of each run
on Ray, such as num_gpus=0.5 or memory=8e9. May be repeated."""


@dataclass(kw_only=True)
class RunOptions:
    """The options of `oodml study run`."""

    file: Annotated[Path, argument(_STUDY, metavar="STUDY")]
    out: shared.ResultsFolder
    data: Annotated[Text, shared.source(_FOLDER, unset="as in the study file")] = None
    splits: Annotated[File, shared.splits_option(unset="as in the study file")] = None
    workers: shared.Workers = 1
    threads: Annotated[Count, option("Threads per worker.", min=1, unset="cores / workers")] = None
    device: shared.Device = None
    checkpoint_seconds: Annotated[float, training("Least time between checkpoints.", min=0)] = 60
    track: Annotated[Words, many("tensorboard, wandb, mlflow, trackio.", panel="Runs")] = None
    retry: Annotated[bool, training("Repeat failed runs.")] = False
    replace: Annotated[bool, training("Replace another study in the folder.")] = False
    smoke: Annotated[bool, training("Smoke test: two splits, one epoch.")] = False
    search_only: Annotated[bool, training("Only search for options.")] = False
    dry_run: Annotated[bool, training("List what would run.")] = False
    on: Annotated[str, cluster(_ON)] = "local"
    job: Annotated[Words, cluster(_JOB)] = None
    gpus_per_run: Annotated[Number, cluster("GPUs per run (Ray).", min=0, unset="1 on CUDA")] = None
    cpus_per_run: Annotated[Number, cluster("CPU cores per run (Ray).", min=0, unset="1")] = None
    storage: Annotated[Text, cluster("Folder, s3://…, or gs://… to keep a copy in.")] = None


def run(given: RunOptions) -> None:
    """Run the missing runs of a study. You can stop it at any time; run it again to resume.

    Several processes and machines can work on one folder at the same time. --dry-run prints the
    job script of Slurm, too. --search-only chooses the options that have ranges.

    Example: `oodml study run study.toml --out results`
    """
    from tempfile import TemporaryDirectory

    from oodml.study.folder.status import Status
    from oodml.study.launch import run_study, search_study
    from oodml.study.preview import preview
    from oodml.study.spec.shipped import check_data, open_study
    from oodml.study.spec.smoke import smoke_study
    from oodml.study.spec.study_file import Study

    out, smoke = given.out, given.smoke
    study = open_study(given.file, None if given.data is None else Path(given.data), given.splits)
    if not smoke:
        check_data(study, str(given.file))
    resources = {"num_gpus": given.gpus_per_run, "num_cpus": given.cpus_per_run}
    job = {name: f"{value:g}" for name, value in resources.items() if value is not None}
    job |= dict(shared.parse_pair(one, "--job") for one in given.job or ())
    if given.dry_run:
        with TemporaryDirectory() as folder:
            planned = smoke_study(study, Path(folder)) if smoke else study
            text = [preview(planned, out, smoke, given.replace)]
        if given.on.startswith("slurm"):
            from oodml.study.workers.executors import slurm_script

            text.append(slurm_script(out, given.workers, job))
        shared.show(text, next=("study", "run", given.file, "--out", out))
        return
    same = ("workers", "checkpoint_seconds", "retry", "replace", "smoke", "storage")
    options: dict[str, Any] = {name: getattr(given, name) for name in same}
    options |= {"executor": given.on, "job_options": job, "trackers": given.track or ()}
    options |= {"study": smoke_study(study, out) if smoke else study, "folder": out}
    lead = search_study if given.search_only else run_study
    result = _lead(lead, given.device, given.threads, **options)
    if isinstance(result, Study):
        _print_chosen(result, given.file, out)
    elif isinstance(result, Status):
        _print_outcome(result, out)


def add(
    folder: shared.StudyFolder,
    method: Annotated[str, option("Method: its name in the study.")],
    vectors: Annotated[Path, option("Vectors: files with {split} and {seed} in their path.")],
    data: shared.Data = None,
    splits: shared.Splits = None,
    replace_runs: Annotated[bool, option("Replace runs that exist.")] = False,
) -> None:
    """Add a model that you trained elsewhere: one file of test vectors per split and seed.

    A path without {split} is a model that was not trained on the splits. If the folder has no study
    yet, give --data and --splits.

    Example: `oodml study add results --method mine --vectors 'mine/{split}-{seed}.npz'`
    """
    from oodml.progress import count_noun
    from oodml.study.external import add_files

    options: Any = {"data": data, "splits": splits, "replace_existing": replace_runs}
    added = add_files(folder, method, str(vectors), **options)
    sentences = [f"{count_noun(len(added), 'run')} added: {folder}/results.parquet", *added]
    shared.show(sentences, next=("report", folder))


def status(folder: shared.StudyFolder) -> None:
    """Show which runs are done, running, failed, or missing, and the expected time left.

    Example: `oodml study status results`
    """
    from oodml.study.folder.status import format_status, read_status

    status = read_status(folder)
    names = {"done": status.done, "running": [one.run for one in status.running]}
    names |= {"failed": [run for run, _ in status.failed], "missing": status.missing}
    runs = {name: [run.description for run in listed] for name, listed in names.items()}
    finished = len(status.done) == status.total
    rerun = ("study", "run", "study.toml", "--out", folder, *["--retry"] * bool(status.failed))
    shared.show(
        format_status(status),
        next=("report", folder) if finished else rerun,
        json={"name": status.name, "total": status.total, **runs, "seconds_left": status.remaining},
    )


def table(
    study: shared.Study,
    metric: Annotated[Words, shared.metrics_option(unset="recall@1")] = None,
    stage: Annotated[Words, many("Stages (default: zero_shot).")] = None,
    where: Annotated[Words, option("Rows with COLUMN=VALUE[,VALUE]; repeatable.")] = None,
    rows: Annotated[Words, many("Columns that become rows (default: method).")] = None,
    columns: Annotated[str, option("Column that becomes the columns.")] = "split",
    out: Annotated[File, option("File to write the table to: .csv.")] = None,
) -> None:
    """Print the results as a table: means, with standard deviations over seeds and episodes.

    Stages: zero_shot, validation, training, before, after, best_test_epoch, test_data. --rows and
    --columns are columns of the results.

    Example: `oodml study table results --where method=margin,arcface --columns seed`
    """
    from oodml.files import write_text
    from oodml.results.schema import Stage, filter_rows, is_smoke, pivot, read_results
    from oodml.share.pack import study_folder
    from oodml.study.folder.store import Store

    wanted = {"stage": stage or [str(Stage.ZERO_SHOT)], "metric": metric or ["recall@1"]}
    title = f"{','.join(wanted['metric'])}, {','.join(wanted['stage'])}"
    for condition in where or ():
        column, values = shared.parse_pair(condition, "--where")
        wanted[column] = values.split(",")
    down = rows or ["method"]
    if Stage.TEST_DATA in wanted["stage"] and "data" not in (*down, columns, *wanted):
        down = ["data", *down]  # numbers of different datasets have no common mean
    with study_folder(study) as folder:
        results = Store(folder).results
        shared.check_outputs([out], results)
        everything, smoke = read_results(results), is_smoke(results)
    chosen = filter_rows(everything, wanted)
    wide = pivot(chosen, down, columns)
    if out:
        write_text(out, wide.to_csv())
    lines = wide.reset_index().to_numpy().tolist()
    heads = (*down, *map(str, wide.columns))
    sentences = ["Means over seeds and episodes, with standard deviations."]
    if len(wanted["metric"]) == 1:
        sentences.insert(0, _describe_best(chosen, down, wanted["metric"][0]))
    sentences += ["Smoke test: these numbers are not results."] * smoke
    if wanted["stage"] == [Stage.ZERO_SHOT] and (everything["stage"] == Stage.TEST_DATA).any():
        sentences.append("The models were tested on further datasets, too: --stage test_data")
    shared.show(
        sentences,
        shared.Table(title, heads, lines, list(down)),
        next=("report", study),
        json=[dict(zip(heads, line, strict=True)) for line in lines],
    )


def _describe_best(rows: "pd.DataFrame", down: list[str], metric: str) -> str:
    """The row of a table with the highest mean, over the splits that all rows have."""
    splits = [set(one) for _, one in rows.groupby(down)["split"]]
    common, where = set.intersection(*splits), ""
    if "split" not in down and any(one != common for one in splits):
        rows = rows[rows["split"].isin(common)]
        if rows.empty:
            return "No mean is the highest: the rows have no split in common."
        where = f"On the splits that all rows have ({', '.join(sorted(common))}), "
    best = rows.groupby(down)["value"].mean().sort_values().iloc[[-1]]
    name = ", ".join(best.index.to_frame().astype(str).iloc[0])
    return f"{where}{name} has the highest mean of {metric}, {best.iloc[0]:.4f}."


def init(
    data: Annotated[Text, shared.DATA_ARGUMENT] = None,
    out: Annotated[Path, option("File to write: a study.")] = Path("study.toml"),
    root: shared.Root = None,
    from_: Annotated[Text, option("A shipped study to copy.", "--from")] = None,
) -> None:
    """Write a first study file for your images, or a copy of a shipped study, with comments.

    Example: `oodml study init photos/ --out photos.toml`
    """
    from oodml.files import write_text
    from oodml.study.spec.shipped import shipped_text, study_text

    if out.exists():
        raise OodmlError(f"{out}: exists already; choose another file with --out", given=str(out))
    if (data is None) == (from_ is None):
        raise OodmlError("give either DATA or --from", location="DATA", given=data)
    write_text(out, shipped_text(from_, root, out) if from_ else study_text(str(data), out, root))
    shared.show(f"Wrote {out}.", next=("study", "run", out, "--out", "results"))


def leave_out(
    data: shared.RequiredData,
    out: shared.ResultsFolder,
    methods: Annotated[Words, many("Methods: their names.", unset="three of them")] = None,
    column: Annotated[str, option("Column whose values are left out in turn.")] = "superclass",
    n_seeds: Annotated[int, option("Number of seeds per method.", min=1)] = 3,
    n_splits: shared.NSplits = "2",
    epochs: Annotated[int, option("Epochs per run.", min=1)] = 10,
    backbone: shared.Backbone = "lite0",
    image_size: shared.ImageSize = None,
    augmentation: Annotated[str, shared.augmentation_option()] = "base",
    device: shared.Device = None,
) -> None:
    """Leave groups of images out, forecast them from studies of the others, and score this.

    A group is a superclass (without any, a cluster of similar classes), or a value of another
    column, such as camera or style (--column). By default margin, multisimilarity, and proxy_anchor
    are trained; frozen is added.

    Example: `oodml study leave-out --data photos/ --out trial/`
    """
    from oodml.forecasting.trial import TrialSettings, describe_trial, run_trial

    trained = tuple(name for name in methods or TrialSettings.methods if name != "frozen")
    splits: Any = int(n_splits) if n_splits.isdigit() else n_splits
    features = (backbone, image_size, augmentation)
    settings = TrialSettings(data, column, trained, n_seeds, splits, epochs, *features)
    trial = run_trial(settings, out, device, log=lambda text: typer.echo(text, err=True))
    shared.show(
        describe_trial(trial),
        next=("forecast", "STUDY", "--new", "IMAGES"),
        json=trial.rows.to_dict("records"),
    )


def demo(
    out: shared.ResultsFolder = Path("demo"),
    workers: shared.Workers = WORKERS,
    device: shared.Device = None,
) -> None:
    """Run the shipped study of characters in ten scripts, and write its report.

    You can stop it and start it again at any time.

    Example: `oodml demo --out demo`
    """
    from oodml.cli.report import report

    run(RunOptions(file=Path("shipped:demo"), out=out, workers=workers, device=device))
    report([out])


def try_(
    data: shared.DataArgument,
    new: Annotated[Text, option("New images: a folder, labeled or not.")] = None,
    backbone: shared.Backbone = "lite0",
    minutes: Annotated[float, option("Time budget in minutes.", min=0.1)] = 10.0,
    out: Annotated[File, option("Folder for the study.", unset="try-NAME")] = None,
    device: shared.Device = None,
) -> None:
    """Find out in minutes how retrieval of your images holds up on new classes.

    Compares a frozen network with trained heads on splits of growing shift.

    Example: `oodml try photos/ --new next_season/`
    """
    from oodml.try_images import try_images

    folder = out or Path(f"try-{Path(data).resolve().name}")
    options: dict[str, Any] = {"new": new, "backbone": backbone, "minutes": minutes}
    options |= {"device": device, "log": partial(typer.echo, err=True)}
    result = try_images(data, folder, **options)
    page = str(result.page.resolve())
    shared.show(
        [*result.sentences, f"Report: {page}", f"To extend the study, edit {result.study_file}."],
        next=("study", "run", result.study_file, "--out", folder),
        json={"answer": list(result.sentences), "page": page},
    )


def _lead(
    lead: Callable[..., T], device: str | None, threads: int | None, **given: Any
) -> T | None:
    """The result of `lead`, or None in a process that follows another one; Ctrl-C ends it."""
    from oodml.study.workers.work import lead_or_follow

    try:
        return lead_or_follow(
            lambda own: lead(device=own, threads=threads, **given), device, threads
        )
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command again to resume; finished runs are not repeated.")
        raise typer.Exit(130) from None


def _print_outcome(status: "Status", out: Path) -> None:
    from oodml.study.folder.status import describe_failures

    for line in describe_failures(status):
        typer.secho(f"failed: {line}", fg="red", err=True)
    smoke = " (smoke test, no results)" if status.smoke else ""
    sentence = f"{len(status.done)} of {status.total} runs done{smoke}: {out}/results.parquet"
    shared.show(sentence, next=("study", "status", out) if status.failed else ("report", out))
    if status.failed:
        typer.echo(f"tracebacks: {out}/failed/; pass --retry to repeat these runs", err=True)
        raise typer.Exit(1)


def _print_chosen(study: "Study", file: Path, out: Path) -> None:
    lines = []
    for label, one in ((study.chosen or {}).get("methods") or {}).items():
        options = {k: "default" if v is None else v for k, v in one["chosen"].items()}
        values = " ".join(f"{name}={value}" for name, value in options.items())
        default = "failed" if one["default"] is None else f"{one['default']:.4f}"
        lines.append(f"{label}: {values}  {one['value']:.4f} (defaults {default})")
    lines.append(f"all trials: {out / 'search' / 'trials.csv'}")
    shared.show(lines, next=("study", "run", file, "--out", out), json=study.chosen)
