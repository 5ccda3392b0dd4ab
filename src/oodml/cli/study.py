"""`oodml study …`: run studies, see where they stand, look at their numbers."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Run studies: methods × splits × seeds.",
    rich_markup_mode="markdown",
)
COMMANDS = ()

Out = Annotated[Path, typer.Option(help="The folder of results.")]
Data = Annotated[Path | None, typer.Option(help="Where the study's data set lies.")]
Splits = Annotated[
    Path | None, typer.Option(help="A file of splits to use instead of building them.")
]
Workers = Annotated[int, typer.Option(help="Processes.", min=1)]
Threads = Annotated[
    int | None, typer.Option(help="Threads of each worker; default: the cores shared out.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16, where a whole network trains.")]
On = Annotated[str, typer.Option(help="local; ray or ray://HOST:PORT; slurm or slurm:local.")]
Job = Annotated[
    list[str] | None,
    typer.Option(help="Of Slurm's jobs, as submitit names it: slurm_partition=gpu."),
]


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(help="The study: a TOML file, or the name of one that oodml brings.")
    ],
    out: Out,
    data: Data = None,
    splits: Splits = None,
    workers: Workers = 1,
    threads: Threads = None,
    device: Device = None,
    precision: Precision = None,
    on: On = "local",
    job: Job = None,
    checkpoint: Annotated[
        float, typer.Option(help="Seconds between two checkpoints of a run.", min=0)
    ] = 60,
    track: Annotated[
        str, typer.Option(help="tensorboard, wandb, mlflow, trackio; several with commas.")
    ] = "",
    retry: Annotated[bool, typer.Option(help="Do failed runs again.")] = False,
    smoke: Annotated[bool, typer.Option(help="A minute's version: does all of it work?")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only list what would be run.")] = False,
) -> None:
    """Do the runs of a study that are missing; stop it at any time and start it again.

    Several may work on one folder at once. Example: `oodml study run study.toml --out results`
    """
    from tempfile import TemporaryDirectory

    from oodml.study.launch import run_study
    from oodml.study.preview import preview
    from oodml.study.spec.shipped import open_study
    from oodml.study.spec.smoke import smaller
    from oodml.study.spec.study_file import with_precision
    from oodml.study.workers.torchrun import as_team

    study = open_study(file, data, splits)
    study = with_precision(study, precision, file) if precision else study
    if dry_run:
        with TemporaryDirectory() as folder:
            study = smaller(study, Path(folder)) if smoke else study
            typer.echo(preview(study, out, smoke))
        return
    study = smaller(study, out) if smoke else study
    try:
        status = as_team(
            lambda place: run_study(
                study,
                out,
                workers=workers,
                threads=threads,
                device=place,
                retry=retry,
                smoke=smoke,
                on=on,
                job=dict(_pair(option, "--job") for option in job or ()),
                checkpoint_seconds=checkpoint,
                track=[name.strip() for name in track.split(",") if name.strip()],
            ),
            device,
            threads,
        )
    except KeyboardInterrupt:
        typer.echo(f"stopped; go on with the same command. Results so far: {out}/results.parquet")
        raise typer.Exit(130) from None
    if status is None:  # another process leads, and tells
        return
    for planned, reason in status.failed:
        typer.secho(f"failed: {planned['label']} on split {planned['split']}, seed "
                    f"{planned['seed']}: {reason}", fg="red", err=True)  # fmt: skip
    typer.echo(f"{len(status.done)} of {status.total} runs done: {out}/results.parquet")
    if status.failed:
        typer.echo(f"tracebacks: {out}/failed/; do them again with --retry", err=True)
        raise typer.Exit(1)


@app.command()
def search(
    file: Annotated[Path, typer.Argument(help="The study: a TOML file with a search.")],
    out: Out,
    data: Data = None,
    splits: Splits = None,
    workers: Workers = 1,
    threads: Threads = None,
    device: Device = None,
    precision: Precision = None,
    on: On = "local",
    job: Job = None,
    retry: Annotated[bool, typer.Option(help="Do failed trials again.")] = False,
) -> None:
    """Choose the options that have ranges, as `run` does before its runs; nothing else is run.

    Example: `oodml study search study.toml --out results`
    """
    from oodml.study.launch import search_study
    from oodml.study.spec.shipped import open_study
    from oodml.study.spec.study_file import with_precision
    from oodml.study.workers.torchrun import as_team

    study = open_study(file, data, splits)
    study = with_precision(study, precision, file) if precision else study
    try:
        found = as_team(
            lambda place: search_study(
                study,
                out,
                workers=workers,
                threads=threads,
                device=place,
                retry=retry,
                on=on,
                job=dict(_pair(option, "--job") for option in job or ()),
            ),
            device,
            threads,
        )
    except KeyboardInterrupt:
        typer.echo("stopped; go on with the same command, trials that are done are kept")
        raise typer.Exit(130) from None
    if found is None:  # another process leads, and tells
        return
    for label, one in ((found.chosen or {}).get("methods") or {}).items():
        chosen = {k: "default" if v is None else v for k, v in one["chosen"].items()}
        values = " ".join(f"{name}={value}" for name, value in chosen.items())
        default = "failed" if one["default"] is None else f"{one['default']:.4f}"
        typer.echo(f"{label}: {values}  {one['value']:.4f} (defaults {default})")
    typer.echo(f"a study with these options: {out}/search/chosen.toml")


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="The folder of a study.")],
) -> None:
    """What is done, running where, failed why, missing, and how long the rest will take.

    Example: `oodml study status results`
    """
    from oodml.study.folder.status import read_status, told

    typer.echo(told(read_status(folder)))


@app.command()
def table(
    folder: Annotated[Path, typer.Argument(help="The folder of a study.")],
    metric: Annotated[str, typer.Option(help="One or several, with commas.")] = "recall@1",
    stage: Annotated[
        str, typer.Option(help="zero_shot, validation, before, after, best_test_epoch.")
    ] = "zero_shot",
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with COLUMN=VALUE[,VALUE].")
    ] = None,
    rows: Annotated[str, typer.Option(help="What goes down.")] = "method",
    columns: Annotated[str, typer.Option(help="What goes across.")] = "split",
    csv: Annotated[Path | None, typer.Option(help="Write it to a file, too.")] = None,
) -> None:
    """The results, filtered and pivoted; means and deviations over what is left out.

    Example: `oodml study table results --where method=margin,arcface --columns seed`
    """
    from rich.console import Console
    from rich.table import Table

    from oodml.files import write_text
    from oodml.results.pivot import chosen, pivot
    from oodml.study.folder.store import Store
    from oodml.study.folder.table import read_rows

    wanted = {"stage": stage.split(","), "metric": metric.split(",")}
    for condition in where or ():
        column, values = _pair(condition, "--where")
        wanted[column] = values.split(",")
    down = rows.split(",")
    found = pivot(chosen(read_rows(Store(folder).results), wanted), down, columns)
    shown = Table(title=f"{metric}, {stage}", title_justify="left")
    for name in (*down, *map(str, found.columns)):
        shown.add_column(name, justify="left" if name in down else "right")
    for key, cells in zip(found.index, found.to_numpy().tolist(), strict=True):
        shown.add_row(*(key if isinstance(key, tuple) else (key,)), *cells)
    Console().print(shown)
    if csv:
        write_text(csv, found.to_csv())


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A folder or table of images, or a data set.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("study.toml"),
) -> None:
    """Write a first study file for your images, with a word on every line.

    Example: `oodml study init photos/ --out photos.toml`
    """
    from oodml.errors import OodmlError
    from oodml.files import write_text
    from oodml.study.spec.template import study_text

    if out.exists():
        raise OodmlError(f"{out} exists; give another file with --out")
    write_text(out, study_text(data, out))
    typer.echo(f"{out}; run it: oodml study run {out} --out results")


def _pair(text: str, option: str) -> tuple[str, str]:
    from oodml.errors import OodmlError

    name, sign, value = text.partition("=")
    if not sign:
        raise OodmlError(f"{option} {text!r}: NAME=VALUE is expected")
    return name, value
