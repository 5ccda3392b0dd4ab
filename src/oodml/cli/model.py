"""`oodml embed`, `oodml demo`."""

from pathlib import Path
from typing import Annotated

import typer


def embed(
    data: Annotated[str, typer.Option(help="A data set's name, a folder, or a table.")],
    out: Annotated[Path, typer.Option(help="The file: .npz, .safetensors, .parquet or .npy.")],
    backbone: Annotated[str | None, typer.Option(help="A frozen network (default lite0).")] = None,
    model: Annotated[Path | None, typer.Option(help="The folder of a trained run.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the square input.")] = None,
    pooling: Annotated[str, typer.Option(help="avg, max or avg+max.")] = "avg",
    augmentation: Annotated[str, typer.Option(help="Whose test transform to use.")] = "base",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …")] = None,
) -> None:
    """Embed images into a file of vectors, by a frozen network or by a trained model.

    Example: `oodml embed --data photos/ --backbone lite0 --out photos.npz`
    """
    from oodml.datasets import open_images
    from oodml.embedding import embed as embed_images
    from oodml.errors import OodmlError
    from oodml.model import load_model
    from oodml.vectors import check_suffix

    if backbone and model:
        raise OodmlError("give --backbone or --model, not both")
    check_suffix(out)
    images = open_images(data)
    if model:
        vectors = embed_images(images, load_model(model), device=device)
    else:
        vectors = embed_images(
            images,
            backbone or "lite0",
            image_size=image_size,
            pooling=pooling,
            augmentation=augmentation,
            device=device,
        )
    vectors.save(out)
    n, d = vectors.vectors.shape
    typer.echo(f"{out}: {n} vectors of {d} dimensions, {len(vectors.class_names)} classes")


def demo(
    out: Annotated[Path, typer.Option(help="The folder of results.")] = Path("demo"),
    workers: Annotated[int | None, typer.Option(help="Processes (default: 4 at most).")] = None,
) -> None:
    """Run the study of characters that comes with oodml, and make its page.

    It may be stopped and started again at any time. Example: `oodml demo --out demo`
    """
    import os
    from importlib.resources import as_file, files

    from oodml.cli.report import report
    from oodml.cli.study import run

    with as_file(files("oodml") / "studies" / "demo.toml") as study:
        run(study, out=out, workers=workers or min(4, os.cpu_count() or 1))
    report(out)


COMMANDS = (demo, embed)
