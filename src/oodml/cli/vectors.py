"""Options and output that commands on files of vectors share."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from oodml.cli.model import named_vectors

if TYPE_CHECKING:
    from oodml.vectors import VectorSet

VECTORS = typer.Argument(
    callback=named_vectors,
    help="Vectors: .npz, .safetensors, .parquet, .csv, or .npy with labels in a .csv of the same "
    "name; or a run of a study, RESULTS:METHOD[:SPLIT[:SEED]].",
)
DISTANCE = typer.Option(help="cosine, euclidean (of the vectors as given), or poincare.")
SEED = typer.Option(help="Random seed for ties, k-means, and resampling.")
JSON = typer.Option("--json", help="Print JSON instead of a table.")
COLUMN = typer.Option(
    "--vectors",
    metavar="COLUMN",
    help="Column of the vectors, or a pattern such as 'pc*' for one column per dimension.",
)
LABELS = typer.Option("--labels", metavar="COLUMN", help="Column of the classes.")
SKIP = typer.Option(
    "--skip-unlabeled", help="Exclude rows without a label instead of refusing the file."
)


def load_vectors(
    path: Path, vectors: str | None, labels: str | None, skip_unlabeled: bool
) -> "VectorSet":
    """Read a file of vectors; see `VectorSet.load`."""
    from oodml.vectors import VectorSet

    return VectorSet.load(path, vectors=vectors, labels=labels, skip_unlabeled=skip_unlabeled)


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


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import json

    typer.echo(json.dumps(value, indent=2))
