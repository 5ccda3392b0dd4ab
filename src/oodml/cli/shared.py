"""Options, input, and output that several commands share."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from oodml.errors import OodmlError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from oodml.images.image_set import ImageSet
    from oodml.vectors import VectorSet

Settings = TypeVar("Settings", bound="BaseModel")


RENAMED = {
    "cache": "data cache",
    "forecast-trial": "study leave-out",
    "leaderboard": "report",
    "reproduce": "study verify --runs 2",
    "search": "study run --search-only",
}
"""Commands of earlier versions, with what replaces them."""


class CommandGroup(TyperGroup):
    """A group whose error for an unknown command names the command that replaced it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in RENAMED and args[0] not in self.commands:
            ctx.fail(f"No such command '{args[0]}'. Use 'oodml {RENAMED[args[0]]}'.")
        return super().resolve_command(ctx, args)


def command_group(text: str) -> typer.Typer:
    """A group of commands with its help."""
    return typer.Typer(
        cls=CommandGroup, no_args_is_help=True, help=text, rich_markup_mode="markdown"
    )


def option(text: str, *names: str, **settings: Any) -> Any:
    """A command's option with its help; a flag is given its name, so that it has no `--no-…`."""
    return typer.Option(*names, help=text, **settings)


def argument(text: str, **settings: Any) -> Any:
    """A command's argument with its help."""
    return typer.Argument(help=text, **settings)


def named_model(text: str | None) -> str | None:
    """The folder of a run named RESULTS:METHOD[:SPLIT[:SEED]]; other texts unchanged."""
    from oodml.study.folder.named_run import run_folder

    return text if text is None else str(run_folder(text) or text)


def named_vectors(path: Path | None) -> Path | None:
    """The test vectors of a run named RESULTS:METHOD[:SPLIT[:SEED]]; other paths unchanged."""
    from oodml.study.folder.named_run import run_folder

    folder = None if path is None else run_folder(path)
    return path if folder is None else folder / "vectors.npz"


_MODEL = "the folder of a trained model, RESULTS:METHOD[:SPLIT[:SEED]], or a backbone."
_DATA = "Images: a dataset's name, a folder, or a table."
_SPLITS = "A split file: .json, or a published .pkl."
_VECTORS = (
    "of vectors: .npz, .safetensors, .parquet, .csv, or .npy with labels in a .csv of its name"
)
DATA = option(_DATA)
VECTORS = argument(
    f"A file {_VECTORS}; or a run of a study, RESULTS:METHOD[:SPLIT[:SEED]].",
    callback=named_vectors,
)
MODEL = option(f"A model: {_MODEL}", callback=named_model)
FIGURE = option("Draw a figure: .png, .pdf, or .svg (default: none).")
Data = Annotated[str | None, option(f"{_DATA[:-1]} (default: none).")]
DataArgument = Annotated[str, argument(_DATA)]
SplitFile = Annotated[Path, argument(_SPLITS)]
Splits = Annotated[Path | None, option(f"{_SPLITS[:-1]} (default: none).")]
VectorFile = Annotated[Path | None, option(f"A file {_VECTORS} (default: none).")]
Vectors = Annotated[Path, VECTORS]
ModelArgument = Annotated[str, argument(f"A model: {_MODEL}", callback=named_model)]
Study = Annotated[
    Path, argument("The folder of a study, or a pack (.zip) of one.", metavar="STUDY")
]
Figure = Annotated[Path | None, FIGURE]
TrustCode = Annotated[
    bool, option("Import and run the user code that a model or study names.", "--trust-code")
]
Device = Annotated[
    str | None, option("cpu, cuda, cuda:1, or mps (default: cuda if available, else cpu).")
]
Backbone = Annotated[str, option("A frozen network: lite0, or any of timm.")]
Weights = Annotated[
    str | None,
    option('A file of the backbone\'s weights, or "none" (default: its pretrained weights).'),
]
ImageSize = Annotated[
    int | None, option("Side of the square input in pixels (default: that of the backbone).")
]
Background = Annotated[
    str | None,
    option('Color behind transparent pixels: white, black, or "#rrggbb" (default: white).'),
]
Workers = Annotated[int, option("Number of processes.", min=1)]
On = Annotated[str, option("Where to run: local, ray, ray://HOST:PORT; studies: slurm, too.")]
Distance = Annotated[str, option("cosine, euclidean (of the vectors as given), or poincare.")]
Seed = Annotated[int, option("Random seed.", min=0)]
Json = Annotated[bool, option("Print JSON only.", "--json")]
Column = Annotated[
    str | None,
    option(
        "Column of the vectors, or a pattern such as 'pc*' for one column per dimension "
        "(default: by its name and type).",
        "--vector-column",
    ),
]
Labels = Annotated[
    str | None, option("Column of the classes (default: by its name).", "--label-column")
]
SkipUnlabeled = Annotated[bool, option("Leave out rows that have no label.", "--skip-unlabeled")]


def parse_options(settings: type[Settings], values: Mapping[str, object]) -> Settings:
    """Settings from those values that they have a field for; errors name the option."""
    from pydantic import ValidationError

    try:
        known = {name: values[name] for name in settings.model_fields if name in values}
        return settings.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        problem = f"{option} {first['input']!r}: {first['msg']}"
        raise OodmlError(problem, location=option, given=first["input"]) from None


def open_data(data: str, **options: Any) -> "ImageSet":
    """The images of a dataset's name, a folder, or a table."""
    from oodml.catalog import make_importable
    from oodml.datasets import open_images

    make_importable(Path.cwd())
    return open_images(data, **options)


def vector_reader(
    column: str | None, labels: str | None, skip_unlabeled: bool
) -> Callable[[Path | None], Any]:
    """A function that reads a file of vectors, if one is given; see `VectorSet.load`."""
    from oodml.vectors import VectorSet

    read = partial(VectorSet.load, vectors=column, labels=labels, skip_unlabeled=skip_unlabeled)
    return lambda path: path and read(path)


def print_skipped(*sets: "VectorSet") -> None:
    """Print how many rows without a label are excluded."""
    skipped = sum(int(vectors.source.get("skipped_unlabeled", 0)) for vectors in sets)
    if skipped:
        typer.secho(f"{skipped} rows without a label are excluded.", fg="yellow", err=True)


def check_output(output: Path | None, *inputs: Path | None) -> None:
    """Refuse to overwrite an input, or the labels beside it."""
    from oodml.files import refuse_overwrite
    from oodml.vector_files import files_of

    if output is not None:
        files = [file for path in inputs if path is not None for file in files_of(path)]
        refuse_overwrite(output, *files)


def print_next(*words: object) -> None:
    """Print the command to type next."""
    typer.echo(f"Next: {shlex.join(['oodml', *map(str, words)])}")


def print_json(value: Any) -> None:
    """Print a value as indented JSON; numbers that are not finite become null."""
    import json

    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    typer.echo(json.dumps(finite, indent=2, ensure_ascii=False))


def print_table(
    title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], text: Sequence[str] = ()
) -> None:
    """Print a table; all columns but the first and those of `text` are aligned to the right.

    Without heads, the table has no header.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, because brackets in file names are not markup.
    name = Text(title) if title else None
    table = Table(title=name, title_justify="left", show_header=any(heads))
    for position, head in enumerate(heads):
        side = "right" if position and head not in text else "left"
        table.add_column(head, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
