"""`oodml adapt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oodml.cli import shared
from oodml.cli.shared import option

if TYPE_CHECKING:
    from oodml.adaptation.episodes import AdaptResult
    from oodml.adaptation.gallery import GalleryResult
    from oodml.images.image_set import ImageSet


def adapt(
    model: Annotated[str, shared.MODEL],
    support: Annotated[Path, option("Labeled images to adapt to: a folder CLASS/IMAGE.")],
    queries: Annotated[Path, option("Images to test on: a folder CLASS/IMAGE.")],
    gallery: Annotated[
        Path | None,
        option(
            "Labeled images of the classes you have: a folder CLASS/IMAGE. The support is "
            "added to it; one new class is enough."
        ),
    ] = None,
    out: Annotated[Path | None, option("Folder for the adapted model.")] = None,
    weights: shared.Weights = None,
    objective: Annotated[
        str, option("margin, multisimilarity, triplet, prototypes, or linear.")
    ] = "margin",
    layers: Annotated[
        str, option("last: the last layer, on features; all: the whole network.")
    ] = "last",
    iterations: Annotated[int, option("Number of steps.")] = 300,
    lr: Annotated[float, option("Learning rate of the adapted layers.")] = 2e-4,
    views: Annotated[int, option("Augmented views of each support image, for the last layer.")] = 4,
    seed: Annotated[int, option("Random seed for views and batches.")] = 0,
    background: shared.Background = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Adapt a model to a few labeled images of new classes, and print metrics before and after.

    Example: `oodml adapt --model lite0 --support new/labeled --queries new/test --out adapted`
    """
    given = locals()
    from oodml.adaptation.gallery import add_to_gallery
    from oodml.adaptation.images import adapt_model
    from oodml.adaptation.settings import AdaptSettings
    from oodml.devices import resolve_device
    from oodml.files import refuse_overwrite
    from oodml.model import open_model

    settings = shared.parse_options(AdaptSettings, given)
    resolve_device(device)
    if out is not None:
        refuse_overwrite(out, model, support, queries, gallery)
    labeled, searched = (_open_labeled(path, background) for path in (support, queries))
    start = open_model(model, weights, trust_code, normalize=True)
    if gallery is not None:
        more = _open_labeled(gallery, background)
        inputs = (start, labeled, searched, more, settings)
        adapted, added = add_to_gallery(*inputs, seed=seed, device=device)
        notes, lines = added.notes, _format_recalls(added)
    else:
        adapted, result = adapt_model(start, labeled, searched, settings, seed=seed, device=device)
        notes, lines = (*result.notes, *_describe_losses(result)), _format_metrics(result)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    for line in lines:
        typer.echo(line)
    if out is not None:
        adapted.save(out)
        typer.echo(f"wrote {out}")


COMMANDS = (adapt,)


def _open_labeled(path: Path, background: str | None) -> "ImageSet":
    """The images of a dataset or folder, which may contain a single class."""
    from oodml.datasets.huggingface import is_saved_dataset

    one_class = path.is_dir() and not is_saved_dataset(path)
    options = {"allow_one_class": True} if one_class else {}
    return shared.open_data(str(path), background=background, **options)


def _describe_losses(result: "AdaptResult") -> list[str]:
    """A note if adaptation made a metric worse."""
    before, after = result.before[0], result.after[0]
    worse = [name for name in before if after[name] < before[name]]
    if not worse:
        return []
    return [
        f"{', '.join(worse)} is lower after adaptation. A few support images are a noisy estimate "
        "of their classes: give more, try another --objective, or use the model as it is"
    ]


def _format_metrics(result: "AdaptResult") -> list[str]:
    rows = (
        f"{metric:>12}  {value:6.4f}  {result.after[0][metric]:6.4f}"
        for metric, value in result.before[0].items()
    )
    return [f"{'':>12}  before   after", *rows]


def _format_recalls(result: "GalleryResult") -> list[str]:
    """Recall@1 per group of queries: in the gallery, with the support added, and adapted."""
    rows = []
    for row in result.rows:
        given = "-" if row.gallery is None else f"{row.gallery:.4f}"
        rows.append(f"{row.queries:>14}  {row.count:7}  {given:>7}  {row.added:13.4f}  "
                    f"{row.adapted:7.4f}")  # fmt: skip
    header = f"{'Recall@1':>14}  queries  gallery  support added  adapted"
    return [header, *rows]
