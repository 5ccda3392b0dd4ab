"""`oodml data …`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from oodml.datasets._check import Findings, Quantiles

app = typer.Typer(
    no_args_is_help=True,
    help="Look at a collection of images before using it.",
    rich_markup_mode="markdown",
)
COMMANDS = ()

SHOWN = 10
"""How many names of a kind the table shows; `--json` gives all."""


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="A data set's name, a folder, or a table.")],
    root: Annotated[
        Path | None, typer.Option(help="Where a named data set or a table's images lie.")
    ] = None,
    minimum: Annotated[int, typer.Option(help="Classes with fewer readable images are named.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Say what a collection holds, and which images are corrupt or doubtful.

    Ends with status 1 if there are corrupt images.

    Example: `oodml data check photos/` or `oodml data check cub200 --root ~/data`
    """
    import json
    import warnings
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from oodml.datasets import open_images
    from oodml.datasets._check import check as look_at

    options: dict[str, Any] = {} if root is None else {"root": root}
    images = open_images(data, **options)
    # Pillow warns of broken files that it then refuses; the findings name them.
    warnings.filterwarnings("ignore", module="PIL")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading images", total=len(images))
        findings = look_at(images, minimum, lambda: progress.advance(task))
    if as_json:
        typer.echo(json.dumps(asdict(findings), indent=2, ensure_ascii=False))
    else:
        _print(findings)
    if findings.corrupt:
        raise typer.Exit(1)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="cub200, online_products, cars196 or inshop.")],
    root: Annotated[Path, typer.Option(help="The folder that will hold it.")],
    url: Annotated[str | None, typer.Option(help="Another address of the archive.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The checksum of that archive.")] = None,
) -> None:
    """Download a published data set, verify it and unpack it.

    A stopped download goes on where it was. Where there is no source, it says how to get the
    files by hand.

    Example: `oodml data fetch cub200 --root ~/data`
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from oodml.datasets._fetch import fetch as bring

    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task(name, total=None)
        images = bring(
            name,
            root,
            url,
            sha256,
            lambda done, whole: progress.update(task, completed=done, total=whole or None),
        )
    typer.echo(f"{name}: {len(images)} images of {len(images.class_names)} classes in {root}")


def _print(findings: "Findings") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(findings.name), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in _lines(findings):
        table.add_row(label, escape(text))
    Console().print(table)


def _lines(findings: "Findings") -> list[tuple[str, str]]:
    """What the table says: label and text of each row."""
    corrupt = _listed(list(findings.corrupt.values()))
    if findings.corrupt:
        corrupt += "\nA study goes without them by: data = {name = …, skip_corrupt = true}"
    lines = [
        ("images", str(findings.images)),
        ("classes", str(findings.classes)),
        ("superclasses", str(findings.superclasses or "none")),
        ("images per class", _spread(findings.per_class)),
        ("width", _spread(findings.width, " px")),
        ("height", _spread(findings.height, " px")),
    ]
    if findings.partition:
        parts = [f"{part} {count}" for part, count in findings.partition.items()]
        lines.append(("own split", ", ".join(parts)))
    small = [f"{name} ({count})" for name, count in findings.too_small.items()]
    groups = [" = ".join(group) for group in findings.duplicates]
    return [
        *lines,
        ("corrupt", corrupt),
        (f"classes below {findings.minimum} images", _listed(small)),
        ("same image in several classes", _listed(groups)),
        ("repeated within a class", str(findings.repeats or "none")),
    ]


def _spread(values: "Quantiles", unit: str = "") -> str:
    least, median, greatest = values
    return f"{least:g} to {greatest:g}{unit}, median {median:g}"


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    rest = [f"… and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "\n".join([f"{len(names)}:", *names[:SHOWN], *rest])
