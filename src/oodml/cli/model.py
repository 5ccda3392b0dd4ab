"""`oodml embed`, `oodml export`, `oodml fit`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import Count, Text, option
from oodml.errors import OodmlError

shards = partial(option, panel="Shards")
_OUT = "File to write: .npz, .safetensors, .parquet, or .npy; or a folder of resumable shards."


@dataclass(kw_only=True)
class EmbedOptions:
    """The options of `oodml embed`."""

    data: shared.RequiredData
    out: Annotated[Path, option(_OUT)]
    model: shared.Model = "lite0"
    weights: shared.Weights = None
    image_size: shared.ImageSize = None
    pooling: Annotated[Text, shared.pooling_option(unset="the network's")] = None
    augmentation: Annotated[Text, shared.augmentation_option(unset="the network's")] = None
    skip_corrupt: Annotated[bool, option("Leave out corrupt images.", "--skip-corrupt")] = False
    skip_unlabeled: shared.SkipUnlabeled = False
    background: shared.Background = None
    device: shared.Device = None
    trust_code: shared.TrustCode = False
    batch_size: Annotated[Count, option("Images per pass.", unset="64; on a GPU 1024")] = None
    workers: shared.Workers = 1
    shard_size: Annotated[int, shards("Images per shard; a tar is one shard.", min=1)] = 10_000
    shard_format: Annotated[str, shards("parquet, or npy with a .csv of ids.")] = "parquet"
    on: shared.On = "local"


@shared.with_groups
def embed(given: EmbedOptions) -> None:
    """Embed images with a pretrained backbone or a trained model, and write the vectors to a file.

    With a folder as --out, --data is also a table of URLs, WebDataset tars, or Parquet with images.

    Example: `oodml embed --data photos/ --model lite0 --out photos.npz`
    """
    from oodml.catalog import make_importable
    from oodml.datasets.table import NO_LABEL
    from oodml.devices import resolve_device
    from oodml.embedding import embed as embed_images
    from oodml.hub import is_hub_address
    from oodml.vector_files import check_suffix

    names = ("weights", "image_size", "pooling", "augmentation")
    data, out, model = given.data, given.out, given.model
    options = {name: value for name in names if (value := getattr(given, name)) is not None}
    trained = Path(model).is_dir() or is_hub_address(model)
    if trained and options:
        flag = f"--{next(iter(options)).replace('_', '-')}"
        problem = f"{flag} applies to a backbone; a trained model (--model) has its own settings"
        raise OodmlError(problem, location=flag)
    make_importable(Path.cwd())
    table: dict[str, Any] = {"background": given.background}
    table |= {"skip_unlabeled": True} if given.skip_unlabeled else {}
    if not out.suffix or out.is_dir():
        _embed_shards(given, options, trained, table)
        return
    if given.workers != 1 or given.on != "local":
        problem = "--workers and --on write shards; pass a folder"
        raise OodmlError(f"--out: {problem}", "--out", str(out))
    check_suffix(out)
    shared.check_outputs([out], data, given.weights, *model_files(Path(model)))
    resolve_device(given.device)
    images = shared.open_data(data, skip_corrupt=given.skip_corrupt, **table)
    if given.skip_unlabeled:
        typer.echo(f"rows without a label left out: {dict(images.skipped)[NO_LABEL]}", err=True)
    if images.left_out:
        corrupt = ", ".join(images.left_out)
        typer.echo(f"corrupt images left out: {len(images.left_out)} ({corrupt})", err=True)
    options |= {} if given.batch_size is None else {"batch_size": given.batch_size}
    options |= {"device": given.device, "trust_code": given.trust_code}
    network = oodml.load_model(model, given.trust_code) if trained else model
    vectors = embed_images(images, network, **options)
    vectors.save(out)
    n, d = vectors.vectors.shape
    sentence = f"{out}: {n} vectors of {d} dimensions, {len(vectors.class_names)} classes"
    shared.show(sentence, next=("evaluate", out))


def _embed_shards(
    given: EmbedOptions, options: dict[str, Any], trained: bool, images: dict[str, Any]
) -> None:
    from oodml.bulk.embed import SHARD_SUFFIXES, BulkSettings, embed_shards
    from oodml.bulk.sources import open_source
    from oodml.devices import resolve_device
    from oodml.errors import unknown
    from oodml.study.workers.executors import check_executor

    formats = [suffix[1:] for suffix in SHARD_SUFFIXES]
    if given.shard_format not in formats:
        raise unknown("format", given.shard_format, formats, "--shard-format")
    if given.on.startswith("slurm"):
        raise unknown("executor", given.on, ("local", "ray", "ray://HOST:PORT"), "--on")
    check_executor(given.on)
    model = str(Path(given.model).resolve()) if Path(given.model).is_dir() else given.model
    settings = BulkSettings(
        None if trained else model,
        model if trained else None,
        options,
        suffix=f".{given.shard_format}",
        device=given.device or resolve_device(None).type,
        batch_size=given.batch_size,
        trust_code=given.trust_code,
        code=str(Path.cwd()),
    )
    source = open_source(given.data, given.shard_size, **images)
    n_shards, n_corrupt = embed_shards(source, given.out, settings, given.workers, given.on)
    corrupt = f"; {n_corrupt} corrupt images are listed in corrupt.csv" if n_corrupt else ""
    sentence = f"{given.out}: {n_shards} shards{corrupt}"
    shared.show(sentence, next=("evaluate", "queries.npz", "--gallery", given.out))


def export(
    model: shared.ModelArgument,
    out: Annotated[Path, option("File to write; the suffix is optional.")],
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

    if not onnx and not safetensors:
        problem = "choose a format: --onnx, --safetensors, or both"
        raise OodmlError(problem, location="--onnx, --safetensors")
    make_importable(Path.cwd())
    stem = out.with_suffix("") if out.suffix in (".onnx", ".safetensors") else out
    suffixes = [".safetensors"] * safetensors + [".onnx"] * onnx
    files = {suffix: stem.with_name(stem.name + suffix) for suffix in suffixes}
    shared.check_outputs(files.values(), weights, *model_files(Path(model)))
    network, metadata = load_for_export(model, trust_code, weights)
    summary = f"{metadata['backbone']}, {metadata['dim']} dimensions"
    sentences = []
    if safetensors:
        export_safetensors(network, files[".safetensors"], metadata)
        sentences.append(f"{files['.safetensors']}: {summary}")
    if onnx:
        difference = export_onnx(network, files[".onnx"], metadata)
        sentences.append(
            f"{files['.onnx']}: {summary}; onnxruntime differs by at most {difference:.1e}"
        )
    shared.show(sentences, next=("push", model, "user/name", "--out", "card"))


def fit(
    study: shared.StudyFolder,
    out: Annotated[Path, option("Folder to create for the model.")],
    method: Annotated[
        Text, option("Method: its name in the study.", unset="the trained one with the best AGS")
    ] = None,
    seed: shared.Seed = 0,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Train a method of a study on all classes, and write a model folder with a model card.

    Example: `oodml fit results --method margin --out model`
    """
    oodml.fit_model(study, out, method, seed=seed, device=device, trust_code=trust_code)
    sentence = f"{out}: model.json, model.safetensors, and the model card README.md"
    shared.show(sentence, next=("embed", "--data", "IMAGES", "--model", out, "--out", "new.npz"))


def model_files(model: Path) -> list[Path]:
    """The files of a model or run, which no output may overwrite."""
    names = ("model.json", "model.safetensors", "run.json", "rows.parquet", "vectors.npz")
    return [model / name for name in names]
