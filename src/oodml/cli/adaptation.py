"""`oodml adapt`."""

from pathlib import Path
from typing import Annotated

import typer

from oodml.cli.model import Device, TrustCode, Weights
from oodml.cli.splits import open_data, parse_options


def adapt(
    model: Annotated[
        str, typer.Option(help="The folder of a trained model, or the name of a backbone.")
    ],
    support: Annotated[
        Path, typer.Option(help="Labeled images to adapt to: a folder CLASS/IMAGE.")
    ],
    query: Annotated[Path, typer.Option(help="Images to test on: a folder CLASS/IMAGE.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the adapted model.")] = None,
    weights: Weights = None,
    objective: Annotated[
        str, typer.Option(help="margin, multisimilarity, triplet, prototypes, or linear.")
    ] = "margin",
    layers: Annotated[
        str, typer.Option(help="last: the last layer, on features; all: the whole network.")
    ] = "last",
    iterations: Annotated[
        int | None,
        typer.Option(help="Number of steps (default: 1000 for 2 images per class, 1500 for 5)."),
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate of the adapted layers.")] = 1e-4,
    views: Annotated[
        int, typer.Option(help="Augmented views of each support image, for the last layer.")
    ] = 4,
    seed: Annotated[int, typer.Option(help="Random seed for views and batches.")] = 0,
    device: Device = None,
    trust_code: TrustCode = False,
) -> None:
    """Adapt a model to a few labeled images of new classes, and print metrics before and after.

    Example: `oodml adapt --model lite0 --support new/labelled --query new/test --out adapted`
    """
    from oodml.adaptation.images import adapt_model
    from oodml.adaptation.settings import AdaptSettings
    from oodml.devices import resolve_device
    from oodml.errors import OodmlError
    from oodml.model import frozen_model, load_model

    values = {
        "objective": objective,
        "layers": layers,
        "iterations": iterations,
        "lr": lr,
        "views": views,
    }
    settings = parse_options(AdaptSettings, values)
    resolve_device(device)
    folders = [open_data(str(folder)) for folder in (support, query)]
    if Path(model).is_dir():
        if weights is not None:
            raise OodmlError(
                "--weights applies to a backbone; a trained model has its own",
                location="--weights",
                given=weights,
            )
        start = load_model(model, trust_code)
    else:
        start = frozen_model(model, weights, normalize=True)
    adapted, result = adapt_model(start, *folders, settings, seed=seed, device=device)
    typer.echo(f"{'':>12}  before   after")
    for metric, value in result.before[0].items():
        typer.echo(f"{metric:>12}  {value:6.4f}  {result.after[0][metric]:6.4f}")
    if out is not None:
        adapted.save(out)
        typer.echo(f"wrote {out}")


COMMANDS = (adapt,)
