"""`oodml study …`: run studies and see their state and results."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from oodml.cli import shared
from oodml.cli.shared import argument, command_group, option, print_table
from oodml.errors import OodmlError

if TYPE_CHECKING:
    from oodml.study.folder.status import Status
    from oodml.study.spec.study_file import Study

app = command_group("Run studies: compare methods on splits of growing shift, with several seeds.")
T = TypeVar("T")

StudyFolder = Annotated[Path, argument("The folder of a study.", metavar="STUDY")]
Out = Annotated[Path, option("Folder for the results. It is created if needed.")]
Data = Annotated[Path | None, option("Folder or table of the study's dataset, if it is elsewhere.")]
Splits = Annotated[Path | None, option("File with splits to use instead of building splits.")]
Threads = Annotated[
    int | None, option("Threads per worker. By default the cores are divided among workers.", min=1)
]
Job = Annotated[
    list[str] | None,
    option(
        "Slurm option under its submitit name, such as slurm_partition=gpu, or resource of "
        "each run on Ray, such as num_gpus=0.5 or memory=8e9. May be repeated."
    ),
]
GpusPerRun = Annotated[
    float | None, option("On Ray: GPUs of each run; fractions share a GPU.", min=0)
]
CpusPerRun = Annotated[float | None, option("On Ray: processors of each run.", min=0)]
Replace = Annotated[
    bool,
    option(
        "If the folder contains another study, remove its results table and splits.", "--replace"
    ),
]


@app.command()
def run(
    file: Annotated[
        Path, argument("A study file (TOML), or a study that comes with oodml: shipped:NAME.")
    ],
    out: Out,
    data: Data = None,
    splits: Splits = None,
    workers: shared.Workers = 1,
    threads: Threads = None,
    device: shared.Device = None,
    on: shared.On = "local",
    job: Job = None,
    gpus_per_run: GpusPerRun = None,
    cpus_per_run: CpusPerRun = None,
    checkpoint: Annotated[float, option("Seconds between two checkpoints of a run.", min=0)] = 60,
    track: Annotated[
        str, option("Trackers, separated by commas: tensorboard, wandb, mlflow, trackio.")
    ] = "",
    storage: Annotated[
        str | None,
        option(
            "Keep a copy of the study folder in this folder or URL (s3://…, gs://…), and "
            "continue from it on any machine."
        ),
    ] = None,
    search_only: Annotated[
        bool, option("Choose the options that have ranges, and run nothing else.", "--search-only")
    ] = False,
    retry: Annotated[bool, option("Repeat failed runs.", "--retry")] = False,
    smoke: Annotated[
        bool, option("Smoke test: two splits, one epoch, few images.", "--smoke")
    ] = False,
    replace: Replace = False,
    dry_run: Annotated[
        bool,
        option(
            "List what would run, and run nothing. With --on slurm, print the job script.",
            "--dry-run",
        ),
    ] = False,
) -> None:
    """Run the missing runs of a study. You can stop it at any time; run it again to resume.

    Several processes and machines can work on one folder at the same time.

    Example: `oodml study run study.toml --out results`
    """
    from tempfile import TemporaryDirectory

    from oodml.study.folder.status import Status
    from oodml.study.launch import run_study, search_study
    from oodml.study.preview import preview
    from oodml.study.spec.smoke import smoke_study
    from oodml.study.spec.study_file import Study

    study = _open(file, data, splits, smoke)
    if dry_run:
        with TemporaryDirectory() as folder:
            study = smoke_study(study, Path(folder)) if smoke else study
            typer.echo(preview(study, out, smoke))
        if on.startswith("slurm"):
            from oodml.study.workers.executors import slurm_script

            typer.echo(slurm_script(out, workers, _job_options(job)))
        return
    study = smoke_study(study, out) if smoke else study
    result = _lead(
        search_study if search_only else run_study,
        device,
        threads,
        study=study,
        folder=out,
        workers=workers,
        executor=on,
        retry=retry,
        replace=replace,
        job_options=_job_options(job, gpus_per_run, cpus_per_run),
        smoke=smoke,
        storage=storage,
        checkpoint_seconds=checkpoint,
        trackers=[name.strip() for name in track.split(",") if name.strip()],
    )
    if isinstance(result, Study):
        _print_chosen(result, out)
    elif isinstance(result, Status):
        _print_outcome(result, out)


@app.command()
def add(
    folder: Annotated[Path, argument("The folder of a study.")],
    method: Annotated[str, option("The method's name in the results.")],
    vectors: Annotated[str, option("Files of vectors, with {split} and {seed} in their path.")],
    data: Annotated[
        str | None, option("For a new study: a dataset's name, a folder, or a table.")
    ] = None,
    splits: Annotated[Path | None, option("For a new study: its split file.")] = None,
    replace: Annotated[
        bool, option("Replace runs of the same method, split, and seed.", "--replace")
    ] = False,
) -> None:
    """Add a model that you trained elsewhere: one file of test vectors per split and seed.

    A path without {split} is a model that was not trained on the splits.

    Example: `oodml study add results --method mine --vectors 'mine/{split}-{seed}.npz'`
    """
    from oodml.study.external import add_files

    added = add_files(folder, method, vectors, data=data, splits=splits, replace_existing=replace)
    typer.echo("\n".join([*added, f"{len(added)} runs added: {folder}/results.parquet"]))


@app.command()
def status(folder: StudyFolder) -> None:
    """Show which runs are done, running, failed, or missing, and the expected time left.

    Example: `oodml study status results`
    """
    from oodml.study.folder.status import format_status, read_status

    typer.echo(format_status(read_status(folder)))


@app.command()
def table(
    folder: StudyFolder,
    metric: Annotated[str, option("One metric, or several separated by commas.")] = "recall@1",
    stage: Annotated[
        str, option("zero_shot, validation, before, after, best_test_epoch, or test_data.")
    ] = "zero_shot",
    where: Annotated[
        list[str] | None, option("Keep rows with COLUMN=VALUE[,VALUE]. May be repeated.")
    ] = None,
    rows: Annotated[
        str, option("Columns of the results that become the rows of the table.")
    ] = "method",
    columns: Annotated[
        str, option("Column of the results that becomes the columns of the table.")
    ] = "split",
    csv: Annotated[Path | None, option("Also write the table to this file.")] = None,
) -> None:
    """Print the results as a table: means, with standard deviations over seeds and episodes.

    Example: `oodml study table results --where method=margin,arcface --columns seed`
    """
    from oodml.files import refuse_overwrite, write_text
    from oodml.results.schema import Stage, filter_rows, is_smoke, pivot, read_results
    from oodml.study.folder.store import Store

    wanted = {"stage": stage.split(","), "metric": metric.split(",")}
    for condition in where or ():
        column, values = _parse_pair(condition, "--where")
        wanted[column] = values.split(",")
    down = rows.split(",")
    if Stage.TEST_DATA in wanted["stage"] and "data" not in (*down, columns, *wanted):
        down = ["data", *down]  # numbers of different datasets have no common mean
    results = Store(folder).results
    if csv:
        refuse_overwrite(csv, results)
    everything = read_results(results)
    wide = pivot(filter_rows(everything, wanted), down, columns)
    smoke = "Smoke test, no results: " if is_smoke(results) else ""
    cells = zip(wide.index, wide.to_numpy().tolist(), strict=True)
    lines = [(*(key if isinstance(key, tuple) else (key,)), *row) for key, row in cells]
    heads = (*down, *map(str, wide.columns))
    print_table(f"{smoke}{metric}, {stage}", heads, lines, list(down))
    if stage == Stage.ZERO_SHOT and (everything["stage"] == Stage.TEST_DATA).any():
        typer.echo("The models were tested on further datasets, too: --stage test_data")
    if csv:
        write_text(csv, wide.to_csv())


@app.command()
def init(
    data: Annotated[
        str | None, argument("A folder or table of images, or a dataset's name.")
    ] = None,
    out: Annotated[Path, option("The file to write.")] = Path("study.toml"),
    root: Annotated[
        Path | None, option("The folder of a published dataset such as cub200.")
    ] = None,
    from_: Annotated[
        str | None, option("Copy a shipped study, such as paper_zero_shot_cub200.", "--from")
    ] = None,
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
    text = shipped_text(from_, root, out) if from_ else study_text(str(data), out, root)
    write_text(out, text)
    typer.echo(f"Wrote {out}. Run it: oodml study run {out} --out results")


@app.command(name="leave-out")
def leave_out(
    data: Annotated[str, shared.DATA],
    out: Annotated[Path, option("Folder for the results. Run the command again to resume.")],
    methods: Annotated[
        str, option("Methods to train, separated by commas; frozen is added.")
    ] = "margin,multisimilarity,proxy_anchor",
    groups: Annotated[
        str, option("The column whose values are left out, such as camera or style.")
    ] = "superclass",
    seeds: Annotated[int, option("Seeds per method.", min=1)] = 3,
    n_splits: Annotated[int, option("Splits per study.", min=1)] = 2,
    epochs: Annotated[int, option("Epochs per run.", min=1)] = 10,
    backbone: shared.Backbone = "lite0",
    image_size: shared.ImageSize = None,
    augmentation: Annotated[
        str, option('The transforms; "gentle" for characters, logos, and text.')
    ] = "base",
    device: shared.Device = None,
    as_json: shared.Json = False,
) -> None:
    """Leave groups of images out, forecast them from studies of the others, and score this.

    A group is a superclass, or a value of another column of a table (--groups).

    Example: `oodml study leave-out --data photos/ --out trial/`
    """
    from oodml.forecasting.trial import TrialSettings, describe_trial, run_trial

    trained = tuple(name.strip() for name in methods.split(",") if name.strip() != "frozen")
    features = (backbone, image_size, augmentation)
    settings = TrialSettings(data, groups, trained, seeds, n_splits, epochs, *features)
    trial = run_trial(settings, out, device, log=lambda text: typer.echo(text, err=True))
    if as_json:
        shared.print_json(trial.rows.to_dict("records"))
        return
    typer.echo(describe_trial(trial))


def demo(
    out: Annotated[Path, option("The folder for the results.")] = Path("demo"),
    workers: Annotated[int | None, option("Number of processes (default: up to 4).")] = None,
) -> None:
    """Run the shipped study of characters in ten scripts, and write its report.

    You can stop it and start it again at any time.

    Example: `oodml demo --out demo`
    """
    import os

    from oodml.cli.report import report

    run(Path("shipped:demo"), out=out, workers=workers or min(4, os.cpu_count() or 1))
    report([out])


def try_(
    photos: Annotated[str, argument("A folder or table of labeled images, or a dataset's name.")],
    new: Annotated[
        str | None, option("A folder of new images, labeled or not, to forecast.")
    ] = None,
    backbone: Annotated[
        str, option("The network whose features are used: lite0, or a timm network.")
    ] = "lite0",
    minutes: Annotated[float, option("Time budget in minutes.", min=0.1)] = 10.0,
    out: Annotated[
        Path | None, option("Folder for the study. By default try-NAME in the current folder.")
    ] = None,
    device: shared.Device = None,
) -> None:
    """Find out in minutes how retrieval of your images holds up on new classes.

    Compares a frozen network with trained heads on splits of growing shift.

    Example: `oodml try photos/ --new next_season/`
    """
    from oodml.first_study import try_images

    folder = out or Path(f"try-{Path(photos).resolve().name}")
    result = try_images(
        photos,
        folder,
        new=new,
        backbone=backbone,
        minutes=minutes,
        device=device,
        log=lambda message: typer.echo(message, err=True),
    )
    typer.echo("\n".join(result.sentences))
    typer.echo(f"Report: {result.page.resolve()}")
    typer.echo(
        f"To extend the study, edit {result.study_file} and run: "
        f"oodml study run {result.study_file} --out {folder}"
    )


COMMANDS = (demo, try_)


def _open(file: Path, data: Path | None, splits: Path | None, smoke: bool = False) -> "Study":
    """Open a study with the options of the command line; its dataset must exist."""
    from oodml.study.spec.shipped import check_data, open_study

    study = open_study(file, data, splits)
    if not smoke:
        check_data(study, str(file))
    return study


def _lead(
    lead: Callable[..., T], device: str | None, threads: int | None, **options: Any
) -> T | None:
    """The result of `lead`, or None in a process that follows another one; Ctrl-C ends it."""
    from oodml.study.workers.torchrun import lead_or_follow

    def lead_on(own_device: str) -> T:
        return lead(device=own_device, threads=threads, **options)

    try:
        return lead_or_follow(lead_on, device, threads)
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command again to resume; finished runs are not repeated.")
        raise typer.Exit(130) from None


def _job_options(
    job: list[str] | None, gpus_per_run: float | None = None, cpus_per_run: float | None = None
) -> dict[str, str]:
    resources = {"num_gpus": gpus_per_run, "num_cpus": cpus_per_run}
    named = {name: f"{value:g}" for name, value in resources.items() if value is not None}
    return named | dict(_parse_pair(option, "--job") for option in job or ())


def _print_outcome(status: "Status", out: Path) -> None:
    from oodml.study.folder.status import describe_failures

    for line in describe_failures(status):
        typer.secho(f"failed: {line}", fg="red", err=True)
    smoke = " (smoke test, no results)" if status.smoke else ""
    typer.echo(f"{len(status.done)} of {status.total} runs done{smoke}: {out}/results.parquet")
    if status.failed:
        typer.echo(f"tracebacks: {out}/failed/; pass --retry to repeat these runs", err=True)
        raise typer.Exit(1)


def _print_chosen(study: "Study", out: Path) -> None:
    for label, one in ((study.chosen or {}).get("methods") or {}).items():
        options = {k: "default" if v is None else v for k, v in one["chosen"].items()}
        values = " ".join(f"{name}={value}" for name, value in options.items())
        default = "failed" if one["default"] is None else f"{one['default']:.4f}"
        typer.echo(f"{label}: {values}  {one['value']:.4f} (defaults {default})")
    typer.echo(f"study file with these options: {out}/search/chosen.toml")


def _parse_pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise OodmlError(f"{option} {text!r}: expected NAME=VALUE", location=option, given=text)
    return name, value
