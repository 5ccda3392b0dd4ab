"""`oodml adapt`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import File, option, source

if TYPE_CHECKING:
    from oodml.adaptation.episodes import AdaptResult
    from oodml.adaptation.gallery import GalleryResult

training = partial(option, panel="Training")


def adapt(
    model: shared.Model,
    support: Annotated[Path, source("Labeled images to adapt to: a folder CLASS/IMAGE.")],
    queries: Annotated[Path, source("Images to test on: a folder CLASS/IMAGE.")],
    gallery: Annotated[
        File, source("Gallery to search: a folder CLASS/IMAGE of known classes.")
    ] = None,
    out: Annotated[File, option("Folder for the adapted model.")] = None,
    weights: shared.Weights = None,
    objective: Annotated[str, training("margin, triplet, prototypes, linear, ….")] = "margin",
    layers: Annotated[str, training("last: the last layer; all: the whole network.")] = "last",
    iterations: Annotated[int, training("Number of steps.")] = 300,
    lr: Annotated[float, training("Learning rate of the adapted layers.")] = 2e-4,
    views: Annotated[int, training("Augmented views per image, for the last layer.")] = 4,
    seed: shared.Seed = 0,
    background: shared.Background = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
    as_json: shared.Json = False,
) -> None:
    """Adapt a model to a few labeled images of new classes, and print metrics before and after.

    With --gallery, the support is added to images of known classes; one new class is enough.
    Objectives: margin, multisimilarity, triplet, prototypes, linear, or one of your own.

    Example: `oodml adapt --model lite0 --support new/labeled --queries new/test --out adapted`
    """
    given = locals()
    from oodml.adaptation.gallery import add_to_gallery
    from oodml.adaptation.images import adapt_model
    from oodml.adaptation.settings import AdaptSettings
    from oodml.devices import resolve_device
    from oodml.model import open_model

    settings = shared.parse_options(AdaptSettings, given)
    resolve_device(device)
    shared.check_outputs([out], model, support, queries, gallery)
    labeled, tested = (_open_labeled(path, background) for path in (support, queries))
    start = open_model(model, weights, trust_code, normalize=True)
    options: dict[str, Any] = {"seed": seed, "device": device}
    if gallery is not None:
        more = _open_labeled(gallery, background)
        adapted, added = add_to_gallery(start, labeled, tested, more, settings, **options)
        notes, sentence, table, values = added.notes, *_describe_gallery(added)
    else:
        adapted, result = adapt_model(start, labeled, tested, settings, **options)
        notes, sentence, table, values = result.notes, *_describe_metrics(result)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    following: list[object] = ["adapt", "--model", model, "--support", support]
    following += ["--queries", queries, "--out", "adapted"]
    sentences = [sentence]
    if out is not None:
        adapted.save(out)
        sentences.append(f"wrote {out}")
        following = ["embed", "--data", queries, "--model", out, "--out", "vectors.npz"]
    shared.show(sentences, table, next=following, json=values)


def _open_labeled(path: Path, background: str | None) -> "oodml.ImageSet":
    """The images of a dataset or folder, which may contain a single class."""
    from oodml.datasets.huggingface import is_saved_dataset

    one_class = path.is_dir() and not is_saved_dataset(path)
    options = {"allow_one_class": True} if one_class else {}
    return shared.open_data(str(path), background=background, **options)


def _describe_metrics(result: "AdaptResult") -> tuple[str, shared.Table, Any]:
    before, after = result.before[0], result.after[0]
    first = next(iter(before))
    sentence = f"Adaptation changes {first} from {before[first]:.4f} to {after[first]:.4f}."
    if worse := [name for name in before if after[name] < before[name]]:
        sentence += (
            f" {', '.join(worse)} is lower after adaptation. A few support images are a noisy "
            "estimate of their classes: give more, try another --objective, or use the model "
            "without adaptation."
        )
    rows = [(name, f"{value:.4f}", f"{after[name]:.4f}") for name, value in before.items()]
    table = shared.Table("", ("metric", "before", "after"), rows)
    return sentence, table, {"before": dict(before), "after": dict(after)}


def _describe_gallery(result: "GalleryResult") -> tuple[str, shared.Table, Any]:
    """Recall@1 per group of queries: in the gallery, with the support added, and adapted."""
    from dataclasses import asdict

    rows = [
        (row.queries, str(row.count), "-" if row.gallery is None else f"{row.gallery:.4f}",
         f"{row.added:.4f}", f"{row.adapted:.4f}")
        for row in result.rows
    ]  # fmt: skip
    new = result.rows[0]
    sentence = (
        f"Recall@1 of {new.queries} is {new.added:.4f} with the support in the gallery, and "
        f"{new.adapted:.4f} with the adapted model."
    )
    heads = ("Recall@1", "queries", "gallery", "support added", "adapted")
    return sentence, shared.Table("", heads, rows), [asdict(row) for row in result.rows]
