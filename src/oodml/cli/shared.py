"""Options, input, and output that several commands share."""

import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias, TypeVar

import typer

import oodml
from oodml.errors import OodmlError

if TYPE_CHECKING:
    from pydantic import BaseModel


Settings = TypeVar("Settings", bound="BaseModel")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command with --json, each field of a dataclass as an option, and flags without `--no-…`."""
    listed: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for one in inspect.signature(function).parameters.values():
        if is_dataclass(one.annotation):
            groups[one.name] = one.annotation
            options = inspect.signature(groups[one.name]).parameters.values()
            own = inspect.get_annotations(groups[one.name])  # before those of its base class
            listed += sorted(options, key=lambda option: option.name not in own)
        else:
            listed.append(one.replace(kind=one.KEYWORD_ONLY))
    for one in listed:
        if one.default is False and not one.annotation.__metadata__[0].param_decls:
            one.annotation.__metadata__[0].param_decls = (f"--{one.name.replace('_', '-')}",)
    listed.append(inspect.Parameter("json", one.KEYWORD_ONLY, default=False, annotation=_JSON))

    @wraps(function)
    def run(*, json: bool, **given: Any) -> None:
        _json_only.set(json)
        _outputs.set({})
        typed = [one for one in listed if given.get(one.name) != one.default]
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        try:
            function(**given, **made)
        except OodmlError as error:
            _name_option(error, typed)
            raise

    run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    return run


def _name_option(error: OodmlError, parameters: Iterable[inspect.Parameter]) -> None:
    """Name the option as typed in an error that names the Python argument."""
    argument = error.location
    for one in parameters:
        names = one.annotation.__metadata__[0].param_decls
        if argument in (one.name, f"{one.name}s") and names is not None:
            error.location = next(iter(names), f"--{one.name.replace('_', '-')}")
            error.args = (re.sub(rf"^{argument}(:?)( =)?", rf"{error.location}\1", str(error)),)


def option(
    text: str, *names: str, panel: str | None = None, unset: str = "", **settings: Any
) -> Any:
    """A command's option with its help, and what holds if it is not given."""
    text = f"{text.removesuffix('.')} (default: {unset})." if unset else text
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


def argument(text: str, **settings: Any) -> Any:
    """A command's argument with its help."""
    return typer.Argument(help=text, **settings)


def many(text: str, kind: Callable[[str], Any] = str, *names: str, **settings: Any) -> Any:
    """An option with several values of a kind, separated by commas or in repeated options."""

    def parse(given: str) -> list[Any]:
        try:
            return [kind(part.strip()) for part in given.split(",") if part.strip()]
        except ValueError as error:
            raise typer.BadParameter(f"{given!r} is not a list such as 64,32; {error}") from error

    def join(given: Sequence[list[Any]] | None) -> list[Any] | None:
        return [value for values in given or () for value in values] or None

    shape = "A,B,…" if kind is str else "N,N,…"
    return option(text, *names, parser=parse, callback=join, metavar=shape, **settings)


def whole(text: str) -> int:
    """A whole number from 1, also as 1e6."""
    number = float(text)
    if number < 1 or number % 1:
        raise ValueError("allowed: whole numbers from 1")
    return int(number)


_json_only = ContextVar("json_only", default=False)
_outputs: ContextVar[dict[Path, str]] = ContextVar("outputs")


def named_run(value: Any) -> Any:
    """The folder of a run named RESULTS:METHOD[:SPLIT[:SEED]]; other values unchanged."""
    from oodml.study.folder.named_run import run_folder

    folder = None if value is None else run_folder(value)
    return value if folder is None else type(value)(folder)


def named_vectors(value: Any) -> Any:
    """The test vectors of a run named RESULTS:METHOD[:SPLIT[:SEED]]; other values unchanged."""
    folder = named_run(value)
    return value if folder == value else type(value)(Path(folder, "vectors.npz"))


def split_file(path: Any) -> Any:
    """The split file of a study's folder; other paths unchanged."""
    return path / "splits.json" if path is not None and path.is_dir() else path


File: TypeAlias = Path | None
Text: TypeAlias = str | None
Count: TypeAlias = int | None
Number: TypeAlias = float | None
Words: TypeAlias = list[str] | None
Numbers: TypeAlias = list[float] | None
Counts: TypeAlias = list[int] | None
source, output = partial(option, panel="Input"), partial(option, panel="Output")
"""Options of the first and the last panel of commands with many options."""
_DATA = "Images: a dataset's name, NAME:FOLDER for a published one, a folder, or a table."
_MODEL = "Model: its folder, RESULTS:METHOD[:SPLIT[:SEED]], or a backbone."
_SPLITS = "Splits: a file, .json or a published .pkl; or a study's folder."
_VECTORS = (
    "Vectors: a file, .npz, .safetensors, .parquet, .csv, or .npy with a .csv of its name; or a "
    "run of a study, RESULTS:METHOD[:SPLIT[:SEED]]."
)
data_option = partial(source, _DATA)
splits_option = partial(source, _SPLITS, callback=split_file)
backbone_option = partial(option, "Frozen network: lite0, a timm name, or LIBRARY:NAME.")
pooling_option = partial(option, "Pooling: model (as deployed), avg, gem, max, cls, ….")
augmentation_option = partial(option, "Image transforms: base, gentle (for text), ….")
metric_option = partial(option, "Metric, such as recall@1 or map@r.")
"""Options with the same text and other defaults in several commands."""
weights_option = partial(option, 'The backbone\'s weights: a file or "none".')
size_option = partial(option, "Side of the square input in pixels.")
metrics_option = partial(many, "Metric, such as recall@1 or map@r.")
k_option = partial(many, "Cut-offs k of the metrics.", whole)
vector_source = partial(source, callback=named_vectors)
"""Options that take a file of vectors, or a run of a study."""
MODEL = option(_MODEL, callback=named_run)
Data = Annotated[Text, data_option()]
RequiredData = Annotated[str, data_option()]
DATA_ARGUMENT = argument(_DATA)
DataArgument = Annotated[str, DATA_ARGUMENT]
Model = Annotated[str, MODEL]
ModelArgument = Annotated[str, argument(_MODEL, callback=named_run)]
SplitFile = Annotated[Path, argument(_SPLITS, callback=split_file, metavar="SPLITS")]
Splits = Annotated[File, splits_option()]
Vectors = Annotated[Path, argument(_VECTORS, callback=named_vectors)]
VectorFile = Annotated[File, vector_source(_VECTORS)]
Gallery = Annotated[File, vector_source("Gallery to search: vectors.", unset="the queries")]
Study = Annotated[Path, argument("Study: its folder, or a pack (.zip).", metavar="STUDY")]
StudyFolder = Annotated[Path, argument("Study: its folder.", metavar="STUDY")]
ResultsFolder = Annotated[Path, option("Folder for the results; run again to resume.")]
Root = Annotated[File, option("Folder of a named dataset or of a table's images.")]
NSplits = Annotated[str, option("Number of splits, evenly spaced in shift; or all.")]
Page = Annotated[File, output("Write an .html page.")]
Figure = Annotated[File, output("Draw a figure: .png, .pdf, or .svg.")]
TrustCode = Annotated[bool, option("Run the user code that a model or study names.")]
Device = Annotated[Text, option("Device: cpu, cuda, cuda:1, or mps.", unset="cuda, else cpu")]
Backbone = Annotated[str, backbone_option()]
Weights = Annotated[Text, weights_option(unset="pretrained")]
ImageSize = Annotated[Count, size_option(unset="the backbone's")]
Background = Annotated[Text, option("Color behind transparency, such as #808080.", unset="white")]
Workers = Annotated[int, option("Number of processes.", min=1)]
On = Annotated[str, option("Where to run: local, ray, or ray://HOST:PORT.")]
Distance = Annotated[str, option("cosine, euclidean (as given), or poincare.", panel="Ranking")]
Resamples = Annotated[int, option("Number of resamples for intervals.", min=0)]
Seed = Annotated[int, option("Random seed.", min=0)]
_JSON = Annotated[bool, option("Print JSON only.", "--json")]
SkipUnlabeled = Annotated[bool, source("Leave out rows without a label.")]


@dataclass(kw_only=True)
class VectorReader:
    """The options of commands that read files of vectors; see `VectorSet.load`."""

    distance: Distance = "cosine"
    seed: Seed = 0
    vector_column: Annotated[
        Text, source("Column of the vectors, or several: pc*.", unset="by name")
    ] = None
    label_column: Annotated[Text, source("Column of the classes.", unset="by name")] = None
    skip_unlabeled: SkipUnlabeled = False

    def read(self, *paths: Path | None, note: bool = True) -> list[Any]:
        """The vectors of each file that is given; note how many rows are left out."""
        options: Any = {"vectors": self.vector_column, "labels": self.label_column}
        options["skip_unlabeled"] = self.skip_unlabeled
        sets = [path and oodml.VectorSet.load(path, **options) for path in paths]
        skipped = sum(int(rows.source.get("skipped_unlabeled", 0)) for rows in sets if rows)
        if skipped and note:
            typer.secho(f"{skipped} rows without a label are excluded.", fg="yellow", err=True)
        return sets


@dataclass(kw_only=True)
class FeatureOptions:
    """The options of commands that measure existing splits; see `splits.features_of`."""

    data: Data = None
    vectors: VectorFile = None
    backbone: Annotated[Text, backbone_option(unset="that of the splits, or lite0")] = None
    weights: Annotated[Text, weights_option(unset="as recorded, else pretrained")] = None
    image_size: Annotated[Count, size_option(unset="that of the splits, or the backbone's")] = None
    device: Device = None


def parse_options(settings: type[Settings], values: Mapping[str, object]) -> Settings:
    """Settings from those values that they have a field for; errors name the option."""
    from pydantic import ValidationError

    try:
        known = {name: values[name] for name in settings.model_fields if name in values}
        return settings.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        problem = f"{flag} {first['input']!r}: {first['msg']}"
        raise OodmlError(problem, location=flag, given=first["input"]) from None


def open_data(data: str, **options: Any) -> "oodml.ImageSet":
    """The images of a dataset's name, a folder, or a table."""
    from oodml.catalog import make_importable

    make_importable(Path.cwd())
    return oodml.open_images(data, **options)


def parse_pair(text: str, flag: str) -> tuple[str, str]:
    """The name and the value of NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign:
        raise OodmlError(f"{flag} {text!r}: expected NAME=VALUE", location=flag, given=text)
    return name, value


def check_outputs(outputs: Iterable[Path | None], *inputs: Path | str | None) -> None:
    """Refuse to overwrite an input, or the labels beside it; `show` states what was written."""
    from oodml.files import refuse_overwrite
    from oodml.vector_files import files_of

    files = [file for path in inputs if path is not None for file in files_of(Path(path))]
    for output in filter(None, outputs):
        refuse_overwrite(output, *files)
        exists = output.is_file() or (output.is_dir() and any(output.iterdir()))
        _outputs.get()[output] = "replaced" if exists else "wrote"


class Table(NamedTuple):
    """A table to print; all columns but the first and those of `text` are aligned to the right."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: Sequence[str] = ()

    @classmethod
    def of(
        cls, records: Iterable[Any], columns: Mapping[str, str], title: str = "", **settings: Any
    ) -> "Table":
        """A table of records: for each column its head and the format of its cells."""
        rows = [[cell.format_map(one) for cell in columns.values()] for one in records]
        return cls(title, tuple(columns), rows, **settings)

    def print(self) -> None:
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        if self.title:  # a title of the table would wrap at its width
            typer.echo(self.title)
        table = RichTable(show_header=any(self.heads))
        for position, head in enumerate(self.heads):
            side = "right" if position and head not in self.text else "left"
            table.add_column(head, justify=side, overflow="fold")  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*map(Text, row))  # Text, because brackets in file names are not markup
        console = Console()
        (console if console.is_terminal else Console(width=200)).print(table)


def show(
    sentences: str | Sequence[str], *tables: Table, next: Sequence[object] = (), json: Any = None
) -> None:
    """Print an answer: sentences, tables, the files written, and the next command to type; with
    --json only JSON.

    The next command goes to standard error, so that it is not in a file that the output goes to.
    In JSON, numbers that are not finite become null; without `json`, it has the sentences.
    """
    sentences = [sentences] if isinstance(sentences, str) else sentences
    if _json_only.get():
        import json as encoder

        json = {"answer": sentences} if json is None else json
        finite = encoder.loads(encoder.dumps(json, default=_plain), parse_constant=lambda _: None)
        typer.echo(encoder.dumps(finite, indent=2, ensure_ascii=False))
        return
    for sentence in sentences:
        typer.echo(sentence)
    for table in tables:
        table.print()
    for path, verb in _outputs.get().items():
        if verb == "replaced" or not any(f"{path}:" in one for one in sentences):
            typer.echo(f"{verb} {path}")
    if next:
        typer.echo(f"Next: {shlex.join(['oodml', *map(str, next)])}", err=True)


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python; other objects as text."""
    return value.item() if hasattr(value, "item") else str(value)
