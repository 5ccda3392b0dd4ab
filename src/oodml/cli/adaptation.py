"""`oodml adapt`."""

from pathlib import Path
from typing import Annotated

import typer

from oodml.cli.model import TrustCode


def adapt(
    model: Annotated[str, typer.Option(help="The folder of a trained run, or a backbone's name.")],
    support: Annotated[Path, typer.Option(help="Labelled images to adapt to: CLASS/IMAGE.")],
    query: Annotated[Path, typer.Option(help="Images to test with: CLASS/IMAGE.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the adapted model.")] = None,
    objective: Annotated[
        str, typer.Option(help="margin, multisimilarity, triplet, prototypes or linear.")
    ] = "margin",
    layers: Annotated[
        str, typer.Option(help="last: the last layer, on features; all: the whole network.")
    ] = "last",
    iterations: Annotated[
        int | None, typer.Option(help="Steps; by default 1000 for 2 images a class, 1500 for 5.")
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate of what is adapted.")] = 1e-4,
    views: Annotated[
        int, typer.Option(help="Augmented views of each support image, for the last layer.")
    ] = 4,
    seed: Annotated[int, typer.Option(help="Of views and batches.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Adapt a model to a few labelled images of new classes; show what it brings.

    Example: `oodml adapt --model lite0 --support new/labelled --query new/test --out adapted`
    """
    from pydantic import ValidationError

    from oodml.adaptation.images import adapt_model
    from oodml.adaptation.settings import AdaptSettings
    from oodml.catalog import make_importable
    from oodml.datasets import open_images
    from oodml.errors import OodmlError
    from oodml.model import Embedder, IdentityHead, ModelSettings, load_model

    try:
        settings = AdaptSettings.model_validate(
            {
                "objective": objective,
                "layers": layers,
                "iterations": iterations,
                "lr": lr,
                "views": views,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise OodmlError(f"--{first['loc'][0]} {first['input']!r}: {first['msg']}") from error
    make_importable(Path.cwd())
    if Path(model).is_dir():
        start = load_model(model, trust_code)
    else:
        start = Embedder(ModelSettings.model_validate({"backbone": model}), IdentityHead())
    adapted, result = adapt_model(
        start, open_images(support), open_images(query), settings, seed=seed, device=device
    )
    typer.echo(f"{'':>12}  before   after")
    for metric, value in result.before[0].items():
        typer.echo(f"{metric:>12}  {value:6.4f}  {result.after[0][metric]:6.4f}")
    if out is not None:
        adapted.save(out)
        typer.echo(f"{out}: the adapted model")


COMMANDS = (adapt,)
