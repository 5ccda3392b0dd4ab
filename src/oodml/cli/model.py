"""`oodml embed`, `oodml export`, `oodml demo`."""

from pathlib import Path
from typing import Annotated

import typer

TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Import your own code that the model names; trust it.")
]


def embed(
    data: Annotated[str, typer.Option(help="A data set's name, a folder, or a table.")],
    out: Annotated[Path, typer.Option(help="The file: .npz, .safetensors, .parquet or .npy.")],
    backbone: Annotated[str | None, typer.Option(help="A frozen network (default lite0).")] = None,
    model: Annotated[Path | None, typer.Option(help="The folder of a trained run.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the square input.")] = None,
    pooling: Annotated[str, typer.Option(help="avg, max or avg+max.")] = "avg",
    augmentation: Annotated[str, typer.Option(help="Whose test transform to use.")] = "base",
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that can't be read.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Embed images into a file of vectors, by a frozen network or by a trained model.

    Example: `oodml embed --data photos/ --backbone lite0 --out photos.npz`
    """
    from oodml.catalog import make_importable
    from oodml.datasets import open_images
    from oodml.embedding import embed as embed_images
    from oodml.errors import OodmlError
    from oodml.model import load_model
    from oodml.vectors import check_suffix

    if backbone and model:
        raise OodmlError("give --backbone or --model, not both")
    check_suffix(out)
    make_importable(Path.cwd())
    images = open_images(data, skip_corrupt=skip_corrupt)
    if images.left_out:
        several = "s" if len(images.left_out) > 1 else ""
        typer.echo(f"{len(images.left_out)} corrupt image{several} left out: "
                   f"{', '.join(images.left_out)}", err=True)  # fmt: skip
    if model:
        vectors = embed_images(images, load_model(model, trust_code), device=device)
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


def export(
    model: Annotated[str, typer.Argument(help="A run, an adapted model, or a backbone's name.")],
    out: Annotated[Path, typer.Option(help="The file; its suffix may be left out.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="For any runtime.")] = False,
    safetensors: Annotated[bool, typer.Option("--safetensors", help="For oodml.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Write a whole model, its backbone included, as one file; ONNX is checked against the model.

    Example: `oodml export results/runs/4f0c… --out model --onnx --safetensors`
    """
    from oodml.catalog import make_importable
    from oodml.errors import OodmlError
    from oodml.export import export_onnx, export_safetensors, exportable

    if not onnx and not safetensors:
        raise OodmlError("say --onnx, --safetensors, or both")
    make_importable(Path.cwd())
    network, said = exportable(model, trust_code)
    if safetensors:
        file = _suffixed(out, ".safetensors")
        export_safetensors(network, file, said)
        typer.echo(f"{file}: {said['backbone']}, {said['dim']} dimensions")
    if onnx:
        file = _suffixed(out, ".onnx")
        difference = export_onnx(network, file, said)
        typer.echo(f"{file}: {said['backbone']}, {said['dim']} dimensions; onnxruntime differs "
                   f"from the model by {difference:.1e} at most")  # fmt: skip


def _suffixed(file: Path, suffix: str) -> Path:
    """The file with this suffix; one of the other format goes, any other part of the name stays."""
    known = (".onnx", ".safetensors")
    return file.with_suffix(suffix) if file.suffix in known else file.with_name(file.name + suffix)


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


COMMANDS = (demo, embed, export)
