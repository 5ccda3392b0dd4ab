"""Embedding a set of images. Features of a frozen backbone are cached on disk."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from oodml import distributed
from oodml.arrays import Names
from oodml.backbones import (
    POOLINGS,
    VECTORS,
    Backbone,
    check_backbone_name,
    combine_poolings,
    load_backbone,
    local_files,
    resolve_defaults,
)
from oodml.backbones._base import SUMS
from oodml.devices import resolve_device
from oodml.errors import OodmlError, invalid, unknown
from oodml.evaluate.query_lists import listed_parts
from oodml.files import cache_folder, content_hash, log_cache_failure, replacing
from oodml.images.fingerprint import decoding_settings, fingerprint, reader_fingerprints
from oodml.images.image_set import ImageSet, VectorImages
from oodml.images.pixel_cache import ResizedImages
from oodml.images.transforms import View, batches, recipe, test_views, train_views
from oodml.model import Embedder, to_float
from oodml.model_input import input_images
from oodml.progress import Progress
from oodml.randomness import derived_seed
from oodml.user_code import code_fingerprints
from oodml.vector_columns import ATTRIBUTES
from oodml.vectors import VectorSet

CACHE_VERSION = "2"
"""Increase it when the same images and settings yield other features."""


def embed(
    images: ImageSet,
    backbone: Any = "lite0",
    *,
    weights: str | None = None,
    image_size: int | None = None,
    pooling: str = "model",
    augmentation: str = "model",
    view: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    cache: bool = True,
    trust_code: bool = False,
    transform: Callable[[Image.Image], Any] | None = None,
) -> VectorSet:
    """Embed images with a frozen backbone, a trained model, or any function of images.

    Args:
        backbone: a backbone as in `oodml.backbones.load_backbone`; the vectors are its pooled,
            unnormalized features [n f]. Or a trained model; the vectors are its embeddings [n d],
            never cached. Or any module or function of batches [n c h w] that `transform` prepares,
            or an object with `encode`, as in sentence-transformers, of lists of images.
        weights, trust_code, image_size, pooling, augmentation: see `oodml.model.ModelTable`.
        view, seed: None for the test view, or the number of a random training view, and its seed.
        device, batch_size: such as "cpu", by default a GPU if there is one; images at a time.
        cache: whether to read and write the cache, which is keyed by the contents of the images.
        transform: from an image of Pillow to the input [c h w]; by default the module's attribute.

    Raises:
        OodmlError: if an argument is invalid, or the backbone cannot be loaded.
    """
    resolved = resolve_device(device)
    _check_at_least("batch_size", batch_size, 1)
    if isinstance(images, VectorImages) and backbone == VECTORS:
        assert images.pixels is not None
        return _vector_set(images.pixels, images, {"backbone": VECTORS})
    if isinstance(backbone, Embedder):
        on: Any = {"device": resolved, "batch_size": batch_size}
        vectors = backbone_features(images, backbone, head=True, **on)
        return _vector_set(vectors, images, {"model": backbone.settings.model_dump()})
    if not isinstance(backbone, str):
        vectors = _apply_function(images, backbone, transform, resolved, batch_size)
        return _vector_set(vectors, images, {"model": type(backbone).__name__})
    given = {"weights": weights, "image_size": image_size, "augmentation": augmentation}
    options = _checked_options(backbone, {**given, "pooling": pooling})
    source = _feature_source(images, backbone, options, view, seed)
    path = _cache_path(source, resolved) if cache else None
    cached = _read_features(path, images.ids, options["pooling"]) if path else None
    if cached is None:
        network = _load_network(backbone, options, trust_code)
        size = image_size or network.image_size
        made = _make_view(images, network, size, options["augmentation"], view, seed)
        features = _pooled_features(images, network, made, resolved, batch_size)
        if path:
            _write_features(path, images.ids, features, source)
        cached = combine_poolings(features, options["pooling"]).numpy()
    return _vector_set(cached, images, source | {"pooling": options["pooling"]})


class ImageEmbedder:
    """Embeds many sets of images with a backbone or a trained model, without the cache.

    The batch size is by default 64 on the CPU and 1024 on a GPU, and is halved when the memory of a
    GPU does not suffice. Options are weights, image_size, pooling, and augmentation as in `embed`.
    """

    def __init__(
        self,
        network: str | Embedder,
        device: torch.device | str | None = None,
        batch_size: int | None = None,
        trust_code: bool = False,
        **options: Any,
    ) -> None:
        self.device = resolve_device(device)
        self.batch_size = batch_size or (64 if self.device.type == "cpu" else 1024)
        _check_at_least("batch_size", self.batch_size, 1)
        self.network: Embedder | Backbone
        if isinstance(network, Embedder):
            self.network = network
            return
        default = {"weights": None, "image_size": None, "pooling": "model", "augmentation": "model"}
        self.options = _checked_options(network, {**default, **options})
        self.network = _load_network(network, self.options, trust_code)

    def __call__(self, images: ImageSet) -> NDArray[np.float32]:
        """[n d] the vectors of images."""
        network = self.network
        on: Any = {"device": self.device, "batch_size": self.batch_size}
        try:
            if isinstance(network, Embedder):
                return backbone_features(images, network, head=True, **on)
            size = self.options["image_size"] or network.image_size
            view = _make_view(images, network, size, self.options["augmentation"], None, 0)
            features = _pooled_features(images, network, view, **on)
            return combine_poolings(features, self.options["pooling"]).numpy()
        except torch.OutOfMemoryError:
            if self.batch_size == 1:
                raise
        self.batch_size //= 2
        return self(images)


def _apply_function(
    images: ImageSet,
    model: Any,
    transform: Callable[[Image.Image], Any] | None,
    device: torch.device,
    batch_size: int,
) -> NDArray[Any]:
    """[n d] the rows of a module, a function, or an object with `encode`, for all images."""
    transform = transform or getattr(model, "transform", None)
    if transform is None and not hasattr(model, "encode"):
        problem = "embed: pass `transform`, a function from an image to the input of the model"
        raise OodmlError(problem, location="transform")
    module = model if isinstance(model, torch.nn.Module) else torch.nn.Identity()
    if transform is not None:
        module.to(device)
    parts: list[Any] = []
    with evaluation_mode(module), Progress(f"Embedding {images.name}", len(images)) as progress:
        for start in range(0, len(images), batch_size):
            batch = [images.read(i) for i in range(start, min(start + batch_size, len(images)))]
            if transform is None:
                parts.append(np.asarray(model.encode(batch, show_progress_bar=False)))
            else:
                inputs = torch.stack([torch.as_tensor(transform(one)) for one in batch])
                parts.append(torch.as_tensor(model(inputs.to(device))).float().cpu().numpy())
            progress.advance(len(batch))
    return np.concatenate(parts)


def feature_cache_file(
    images: ImageSet, backbone: str, options: Mapping[str, Any], view: int | None
) -> Path | None:
    """The file that caches these features, whose options are further arguments of `embed`; None if
    the images are vectors already."""
    if backbone == VECTORS:
        return None
    source = _feature_source(images, backbone, resolve_defaults(backbone, options), view, 0)
    return _cache_path(source, resolve_device(None))


def _feature_source(
    images: ImageSet, backbone: str, options: Mapping[str, Any], view: int | None, seed: int
) -> dict[str, Any]:
    """What identifies the features of images, before pooling: the pixels, and the network."""
    source = _data_source(images)
    if isinstance(images, ResizedImages):
        source["pixels"] = f"short side {images.short}"
    source |= reader_fingerprints(images) | decoding_settings(images) | code_fingerprints(backbone)
    source |= {"files": files} if (files := local_files(backbone)) else {}
    return source | {
        "backbone": backbone,
        "weights": weights_key(options["weights"]),
        "image_size": options["image_size"] or "own",
        "augmentation": options["augmentation"],
        "view": "test" if view is None else f"train {view} seed {seed}",
    }


def _data_source(images: ImageSet) -> dict[str, Any]:
    return {"data": images.name, "fingerprint": fingerprint(images)}


def _checked_options(backbone: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the names of defaults resolved; invalid ones are refused at once."""
    if options["pooling"] not in POOLINGS:
        raise unknown("pooling", options["pooling"], POOLINGS)
    if options["image_size"] is not None:
        _check_at_least("image_size", options["image_size"], 8)
    recipe(options["augmentation"])
    check_backbone_name(backbone)
    return resolve_defaults(backbone, options)


def _load_network(backbone: str, options: Mapping[str, Any], trust_code: bool) -> Backbone:
    network = load_backbone(backbone, options["weights"], trust_code=trust_code)
    network.check_pooling(options["pooling"])
    return network


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise invalid(name, value, f"at least {least} is required")


def weights_key(weights: str | None) -> str:
    """The part of a cache key that identifies weights: a hash of the file, "none", or "own"."""
    if weights in (None, "none"):
        return weights or "own"
    try:
        return content_hash(Path(weights).read_bytes())[:16]
    except OSError:  # loading the weights raises the error
        return weights


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode and disable gradients inside the block."""
    before = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(before)


def backbone_features(
    images: ImageSet,
    model: Embedder,
    *,
    view: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    head: bool = False,
) -> NDArray[np.float32]:
    """The pooled backbone features [n f] of a trained model; with `head`, its embeddings [n d]."""
    images = input_images(images, model.settings, fill_cache=False)
    network, size, on = model.require_backbone(), model.image_size, resolve_device(device)
    transform = _make_view(images, network, size, model.settings.augmentation, view, seed)
    model.to(on)
    with evaluation_mode(model):
        rows, function = distributed.own_share(len(images)), model if head else model.features
        loaded = _image_batches(images, transform, batch_size, rows)
        parts = [function(batch.to(on)).cpu() for batch in loaded]
    return distributed.gather_on_cpu(torch.cat(parts), len(images)).numpy()


def _vector_set(vectors: NDArray[Any], images: ImageSet, source: dict[str, Any]) -> VectorSet:
    source = _data_source(images) | source
    rows = (vectors, images.classes, images.ids, images.superclasses)
    used = {name: images.attributes[name] for name in ATTRIBUTES if name in images.attributes}
    return VectorSet(*rows, source, listed_parts(images), used)


def _make_view(
    images: ImageSet, network: Backbone, size: int, augmentation: str, view: int | None, seed: int
) -> View:
    if view is None:
        return test_views(images, size, recipe(augmentation), network.test_transform)
    return train_views(images, size, recipe(augmentation), derived_seed(seed, "view", view))


def _image_batches(
    images: ImageSet, view: View, batch_size: int, only: slice = slice(None)
) -> Iterator[Tensor]:
    rows = np.arange(len(images))[only]
    starts = range(0, len(rows), batch_size)
    with Progress(f"Embedding {images.name}", len(rows)) as progress:
        for batch in batches((rows[start : start + batch_size], view) for start in starts):
            yield batch
            progress.advance(len(batch))


def _pooled_features(
    images: ImageSet, network: Backbone, view: View, device: torch.device, batch_size: int
) -> dict[str, Tensor]:
    """The features [n _] of every image under every pooling of the network, for the cache."""
    network.to(device)
    names = [name for name in network.poolings if name not in SUMS]
    with evaluation_mode(network):
        pooled = [
            {key: part.cpu() for key, part in network.pooled(inputs, names).items()}
            for batch in _image_batches(images, view, batch_size)
            for inputs in [to_float(batch.to(device))]
        ]
    return {name: torch.cat([batch[name] for batch in pooled]) for name in names}


def _cache_path(source: dict[str, Any], device: torch.device) -> Path:
    """The cache file of these features; other kinds of devices round differently."""
    key = content_hash(CACHE_VERSION, repr(source), device.type)[:24]
    return cache_folder() / "features" / f"{key}.safetensors"


def _write_features(
    path: Path, ids: Names, features: dict[str, Tensor], source: dict[str, Any]
) -> None:
    """Write the cache file. A failure is logged; the features are used without the cache."""
    listed = torch.frombuffer(bytearray(json.dumps(ids.tolist()).encode()), dtype=torch.uint8)
    metadata = {key: str(value) for key, value in source.items()}
    try:
        with replacing(path) as temporary:
            save_file({**features, "ids": listed}, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        log_cache_failure(error)


def _read_features(path: Path, ids: Names, pooling: str) -> NDArray[np.float32] | None:
    """The cached features of these images in their order, or None to compute them."""
    try:
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            stored = np.array(json.loads(bytes(file.get_tensor("ids").numpy())), dtype=np.str_)
            features = {name: file.get_tensor(name) for name in SUMS.get(pooling, (pooling,))}
    except (SafetensorError, OSError, ValueError):  # a damaged file
        return None
    vectors = combine_poolings(features, pooling).numpy()
    if np.array_equal(stored, ids):
        return vectors
    order = np.argsort(stored)
    if not np.array_equal(stored[order], np.sort(ids)):
        return None
    return vectors[order[np.searchsorted(stored[order], ids)]]
