"""`oodml embed`, `oodml export`, `oodml fit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from oodml.cli import shared
from oodml.cli.shared import argument, option
from oodml.errors import OodmlError

Out = Annotated[
    Path,
    option(
        "The file to write: .npz, .safetensors, .parquet, or .npy. `embed`: or a folder of "
        "shards, which the same command resumes."
    ),
]
Pooling = Annotated[
    str | None, option("model (the network's own; default), cls, cls+avg, gem, avg, max, avg+max.")
]
Augmentation = Annotated[str | None, option("Use the test transform of this augmentation.")]
SkipCorrupt = Annotated[bool, option("Leave out images that cannot be read.", "--skip-corrupt")]


def embed(
    data: Annotated[
        str,
        option(
            "Images: a dataset's name, a folder, or a table. With a folder as --out, also tables "
            "of URLs, WebDataset tars, and Parquet with images."
        ),
    ],
    out: Out,
    model: Annotated[str, shared.MODEL] = "lite0",
    weights: shared.Weights = None,
    image_size: shared.ImageSize = None,
    pooling: Pooling = None,
    augmentation: Augmentation = None,
    skip_corrupt: SkipCorrupt = False,
    skip_unlabeled: shared.SkipUnlabeled = False,
    background: shared.Background = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
    batch_size: Annotated[
        int | None, option("Images per forward pass (default: 64 on the CPU, 1024 on a GPU).")
    ] = None,
    workers: shared.Workers = 1,
    shard_size: Annotated[
        int, option("With shards: images per shard; a tar is one shard.", min=1)
    ] = 10_000,
    shard_format: Annotated[
        str, option("With shards: parquet, or npy with a .csv of ids and classes.")
    ] = "parquet",
    on: shared.On = "local",
) -> None:
    """Embed images with a pretrained backbone or a trained model, and write the vectors to a file.

    Example: `oodml embed --data photos/ --model lite0 --out photos.npz`
    """
    from oodml.catalog import make_importable
    from oodml.datasets import open_images
    from oodml.datasets.table import NO_LABEL
    from oodml.devices import resolve_device
    from oodml.embedding import embed as embed_images
    from oodml.files import refuse_overwrite
    from oodml.hub import is_hub_address
    from oodml.model import load_model
    from oodml.vector_files import check_suffix

    given = {"weights": weights, "image_size": image_size, "pooling": pooling}
    given["augmentation"] = augmentation
    options = {name: value for name, value in given.items() if value is not None}
    trained = Path(model).is_dir() or is_hub_address(model)
    if trained and options:
        flag = f"--{next(iter(options)).replace('_', '-')}"
        problem = f"{flag} applies to a backbone; a trained model (--model) has its own settings"
        raise OodmlError(problem, location=flag)
    table: dict[str, Any] = {"skip_unlabeled": True} if skip_unlabeled else {}
    if not out.suffix or out.is_dir():
        named = {"model": str(Path(model).resolve()) if Path(model).is_dir() else model}
        settings: dict[str, Any] = {"backbone": None, **named} if trained else {"backbone": model}
        settings |= {"options": options, "device": device, "trust_code": trust_code}
        settings |= {"batch_size": batch_size}
        sharding = (workers, shard_size, shard_format, on)
        _embed_shards(data, out, settings, sharding, {"background": background, **table})
        return
    if workers != 1 or on != "local":
        problem = "--workers and --on write shards; pass a folder"
        raise OodmlError(f"--out: {problem}", "--out", str(out))
    check_suffix(out)
    refuse_overwrite(out, data, weights, *model_files(Path(model)))
    resolve_device(device)
    make_importable(Path.cwd())
    images = open_images(data, skip_corrupt=skip_corrupt, background=background, **table)
    if skip_unlabeled:
        typer.echo(f"rows without a label left out: {dict(images.skipped)[NO_LABEL]}", err=True)
    if images.left_out:
        names = ", ".join(images.left_out)
        typer.echo(f"corrupt images left out: {len(images.left_out)} ({names})", err=True)
    network = load_model(model, trust_code) if trained else model
    if batch_size is not None:
        options["batch_size"] = batch_size
    vectors = embed_images(images, network, device=device, trust_code=trust_code, **options)  # type: ignore[arg-type]
    vectors.save(out)
    n, d = vectors.vectors.shape
    typer.echo(f"{out}: {n} vectors of {d} dimensions, {len(vectors.class_names)} classes")


def _embed_shards(
    data: str,
    out: Path,
    settings: dict[str, Any],
    sharding: tuple[int, int, str, str],
    images: dict[str, Any],
) -> None:
    from oodml.bulk.embed import SHARD_SUFFIXES, BulkSettings, embed_shards
    from oodml.bulk.sources import open_source
    from oodml.catalog import make_importable
    from oodml.devices import resolve_device
    from oodml.errors import unknown
    from oodml.study.workers.executors import check_executor

    workers, shard_size, shard_format, on = sharding
    formats = [suffix[1:] for suffix in SHARD_SUFFIXES]
    if shard_format not in formats:
        raise unknown("format", shard_format, formats, "--shard-format")
    if on.startswith("slurm"):
        raise unknown("executor", on, ("local", "ray", "ray://HOST:PORT"), "--on")
    check_executor(on)
    make_importable(Path.cwd())
    settings["device"] = settings["device"] or resolve_device(None).type
    chosen = BulkSettings(**settings, suffix=f".{shard_format}", code=str(Path.cwd()))
    source = open_source(data, shard_size, **images)
    n_shards, n_corrupt = embed_shards(source, out, chosen, workers, on)
    corrupt = f"; {n_corrupt} corrupt images are listed in corrupt.csv" if n_corrupt else ""
    typer.echo(
        f"{out}: {n_shards} shards{corrupt}. Search them: `oodml evaluate … --gallery {out}`"
    )


def export(
    model: shared.ModelArgument,
    out: Annotated[Path, option("The file to write; the suffix is optional.")],
    onnx: Annotated[bool, option("Write ONNX, for any runtime.", "--onnx")] = False,
    safetensors: Annotated[bool, option("Write safetensors, for oodml.", "--safetensors")] = False,
    weights: shared.Weights = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Write a whole model, including its backbone, to one file.

    An ONNX file is run with onnxruntime and compared with the model before it is kept.

    Example: `oodml export results:margin --out model --onnx --safetensors`
    """
    from oodml.catalog import make_importable
    from oodml.export import export_onnx, export_safetensors, load_for_export
    from oodml.files import refuse_overwrite

    if not onnx and not safetensors:
        problem = "choose a format: --onnx, --safetensors, or both"
        raise OodmlError(problem, location="--onnx, --safetensors")
    make_importable(Path.cwd())
    suffixes = [".safetensors"] * safetensors + [".onnx"] * onnx
    files = {suffix: _with_suffix(out, suffix) for suffix in suffixes}
    for file in files.values():
        refuse_overwrite(file, weights, *model_files(Path(model)))
    network, metadata = load_for_export(model, trust_code, weights)
    summary = f"{metadata['backbone']}, {metadata['dim']} dimensions"
    if safetensors:
        file = files[".safetensors"]
        export_safetensors(network, file, metadata)
        typer.echo(f"{file}: {summary}")
    if onnx:
        file = files[".onnx"]
        difference = export_onnx(network, file, metadata)
        typer.echo(f"{file}: {summary}; onnxruntime differs by at most {difference:.1e}")


def fit(
    results: Annotated[Path, argument("The folder of a study.")],
    out: Annotated[Path, option("The model folder to create.")],
    method: Annotated[
        str | None, option("The method (default: the trained one with the best AGS).")
    ] = None,
    seed: Annotated[int, option("Random seed of the training.", min=0)] = 0,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Train a method of a study on all classes, and write a model folder with a model card.

    Example: `oodml fit results --method margin --out model`
    """
    from oodml.fit import fit_model

    fit_model(results, out, method, seed=seed, device=device, trust_code=trust_code)
    typer.echo(f"{out}: model.json, model.safetensors, and the model card README.md")


def model_files(model: Path) -> list[Path]:
    """The files of a model or run, which no output may overwrite."""
    names = ("model.json", "model.safetensors", "run.json", "rows.parquet", "vectors.npz")
    return [model / name for name in names]


def _with_suffix(file: Path, suffix: str) -> Path:
    """The file with this suffix instead of one of the two formats, or else appended."""
    known = (".onnx", ".safetensors")
    return file.with_suffix(suffix) if file.suffix in known else file.with_name(file.name + suffix)


COMMANDS = (embed, export, fit)
