"""`oodml embed`, `export`, `fit`, and `adapt`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import Count, File, Text, option, source
from oodml.errors import OodmlError, unknown

if TYPE_CHECKING:
    from oodml.adaptation.episodes import AdaptResult
    from oodml.adaptation.gallery import GalleryResult

shards, training = partial(option, panel="Shards"), partial(option, panel="Training")
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
    skip_corrupt: Annotated[bool, option("Leave out corrupt images.")] = False
    skip_unlabeled: shared.SkipUnlabeled = False
    background: shared.Background = None
    device: shared.Device = None
    trust_code: shared.TrustCode = False
    batch_size: Annotated[Count, option("Images per pass.", unset="64; on a GPU 1024")] = None
    workers: shared.Workers = 1
    shard_size: Annotated[int, shards("Images per shard; a tar is one shard.", min=1)] = 10_000
    shard_format: Annotated[str, shards("parquet, or npy with a .csv of ids.")] = "parquet"
    on: shared.On = "local"


def embed(given: EmbedOptions) -> None:
    """Embed images with a pretrained backbone or a trained model, and write the vectors to a file.

    With a folder as --out, --data can also be a table of URLs, WebDataset tars, or Parquet files.

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
    out: Annotated[Path, option("File to write: .onnx for any runtime, .safetensors for oodml.")],
    weights: shared.Weights = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Write a whole model, including its backbone, to one file.

    An ONNX file is run with onnxruntime and compared with the model before it is kept.

    Example: `oodml export results:margin --out model.onnx`
    """
    from oodml.catalog import make_importable
    from oodml.export import export_onnx, export_safetensors, load_for_export

    if out.suffix not in (".onnx", ".safetensors"):
        raise unknown("suffix", out.suffix, (".onnx", ".safetensors"), f"--out {out}")
    make_importable(Path.cwd())
    shared.check_outputs([out], weights, *model_files(Path(model)))
    network, metadata = load_for_export(model, trust_code, weights)
    sentence = f"{out}: {metadata['backbone']}, {metadata['dim']} dimensions"
    if out.suffix == ".onnx":
        difference = export_onnx(network, out, metadata)
        sentence += f"; onnxruntime differs by at most {difference:.1e}"
    else:
        export_safetensors(network, out, metadata)
    shared.show(sentence, next=("push", model, "user/name", "--out", "card"))


def fit(
    study: shared.StudyFolder,
    out: Annotated[Path, option("Folder to create for the model.")],
    method: Annotated[Text, option("Method: its name in the study.", unset="best trained")] = None,
    seed: shared.Seed = 0,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Train a method of a study on all classes, and write a model folder with a model card.

    Example: `oodml fit results --method margin --out model`
    """
    sentences = [f"{out}: model.json, model.safetensors, and the model card README.md"]
    options: Any = {"seed": seed, "device": device, "trust_code": trust_code}
    oodml.fit_model(study, out, method, log=lambda text: sentences.insert(0, text), **options)
    shared.show(sentences, next=("embed", "--data", "IMAGES", "--model", out, "--out", "new.npz"))


def model_files(model: Path) -> list[Path]:
    """The files of a model or run, which no output may overwrite."""
    names = ("model.json", "model.safetensors", "run.json", "rows.parquet", "vectors.npz")
    return [model / name for name in names]


def adapt(
    model: shared.Model,
    support: Annotated[Path, source("Labeled images to adapt to: a folder CLASS/IMAGE.")],
    queries: Annotated[Path, source("Images to test on: a folder CLASS/IMAGE.")],
    gallery: Annotated[File, source("Gallery to search: known classes, CLASS/IMAGE.")] = None,
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
    following += ["--queries", queries, *(["--gallery", gallery] if gallery else ())]
    following += ["--out", "adapted"]
    if out is not None:
        adapted.save(out)
        following = ["embed", "--data", queries, "--model", out, "--out", "vectors.npz"]
    shared.show(sentence, table, next=following, json=values)


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

    records = [asdict(row) for row in result.rows]
    new = result.rows[0]
    sentence = (
        f"Recall@1 of {new.queries} is {new.added:.4f} with the support in the gallery, and "
        f"{new.adapted:.4f} with the adapted model."
    )
    if new.queries == "new classes":
        sentence += " The gallery has no images of the new classes yet (-)."
    if len(records) == 1:
        sentence += f" All queries are of {new.queries}."
    shown = [one | {"before": "-" if one["gallery"] is None else f"{one['gallery']:.4f}"}
             for one in records]  # fmt: skip
    columns = {"Recall@1": "{queries}", "queries": "{count}", "gallery": "{before}"}
    columns |= {"support added": "{added:.4f}", "adapted": "{adapted:.4f}"}
    return sentence, shared.Table.of(shown, columns), records
