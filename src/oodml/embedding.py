"""Embed a set of images, once: what was embedded before is read from the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from oodml import distributed
from oodml.arrays import Names
from oodml.backbones import Backbone, load_backbone
from oodml.files import cache_folder, content_hash, replacing
from oodml.images.image_set import ImageSet
from oodml.images.loader import View, batches, test_views, train_views
from oodml.images.pixel_cache import SmallImages, input_images
from oodml.images.transforms import recipe
from oodml.model import Embedder, as_floats, pooled
from oodml.randomness import derived_seed
from oodml.user_code import code_fingerprints
from oodml.vectors import VectorSet

CACHE_VERSION = "1"


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def embed(
    images: ImageSet,
    backbone: str | Embedder = "lite0",
    *,
    weights: str | None = None,
    image_size: int | None = None,
    pooling: str = "avg",
    augmentation: str = "base",
    view: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    cache: bool = True,
) -> VectorSet:
    """Vectors of images under a frozen backbone, or embeddings by a trained model.

    backbone: a backbone's name: its pooled, un-normalised features [n f], cached by content;
        or an `Embedder`: its embeddings [n d], with its own input settings (`input_cache`, too),
        never cached.
    image_size: pixels of the square input; None is the backbone's own.
    augmentation, view, seed: None is the test view; view v is the v-th random train view.
    """
    place = torch.device(device) if device is not None else default_device()
    if isinstance(backbone, Embedder):
        return _embedded(images, backbone, place, batch_size)
    source = {
        "data": images.name,
        "fingerprint": images.fingerprint,
        "backbone": backbone,
        "weights": weights_tag(weights),
        "image_size": image_size or "own",
        "augmentation": augmentation,
        "view": "test" if view is None else f"train {view} seed {seed}",
    }
    source |= code_fingerprints(backbone) | images.reader
    if isinstance(images, SmallImages):
        source["pixels"] = f"short side {images.short}"
    path = cache_folder() / "features" / f"{content_hash(CACHE_VERSION, repr(source))[:24]}"
    path = path.with_suffix(".safetensors")
    found = _read(path, pooling) if cache else None
    if found is None:
        network = load_backbone(backbone, weights)
        make = _view(images, image_size or network.image_size, augmentation, view, seed)
        maps = _pooled_maps(images, network, make, place, batch_size)
        if cache:
            _write(path, images, maps, source)
        found = {"ids": images.ids, "vectors": _combined(maps, pooling)}
    vectors = _in_order(found["ids"], found["vectors"], images.ids)
    return VectorSet(
        vectors, images.classes, images.ids, images.superclasses, source | {"pooling": pooling}
    )


def weights_tag(weights: str | None) -> str:
    """What stands for the weights in a cache key: a word, or the content of the file."""
    if weights in (None, "none"):
        return weights or "own"
    path = Path(weights)
    return content_hash(path.read_bytes())[:16] if path.exists() else weights


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode, without gradients; afterwards in the mode it was in."""
    before = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(before)


def trunk_features(
    images: ImageSet,
    model: Embedder,
    *,
    view: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """[n f] the pooled features of a trained model's trunk, under its test or a train view."""
    place = torch.device(device) if device is not None else default_device()
    settings = model.settings
    images = input_images(images, settings, keep=False)
    make = _view(images, model.image_size, settings.augmentation, view, seed)
    model.to(place)
    with evaluating(model):
        rows = distributed.share(len(images))
        parts = [model.features(b.to(place)).cpu() for b in _blocks(images, make, batch_size, rows)]
    return distributed.collected(torch.cat(parts), len(images)).numpy()


def _embedded(
    images: ImageSet, model: Embedder, device: torch.device, batch_size: int
) -> VectorSet:
    images = input_images(images, model.settings, keep=False)
    make = _view(images, model.image_size, model.settings.augmentation, None, 0)
    model.to(device)
    with evaluating(model):
        rows = distributed.share(len(images))
        parts = [model(b.to(device)).cpu() for b in _blocks(images, make, batch_size, rows)]
    source = {"data": images.name, "fingerprint": images.fingerprint}
    return VectorSet(
        distributed.collected(torch.cat(parts), len(images)).numpy(),
        images.classes,
        images.ids,
        images.superclasses,
        source | {"model": model.settings.model_dump()},
    )


def _view(images: ImageSet, size: int, augmentation: str, view: int | None, seed: int) -> View:
    if view is None:
        return test_views(images, size, recipe(augmentation))
    return train_views(images, size, recipe(augmentation), derived_seed(seed, "view", view))


def _blocks(
    images: ImageSet, view: View, batch_size: int, only: slice = slice(None)
) -> Iterator[Tensor]:
    rows = np.arange(len(images))[only]
    starts = range(0, len(rows), batch_size)
    return batches((rows[start : start + batch_size], view) for start in starts)


def _pooled_maps(
    images: ImageSet, network: Backbone, view: View, device: torch.device, batch_size: int
) -> dict[str, Tensor]:
    """Both poolings of every image, so that the cache serves each."""
    network.to(device)
    averages, maxima = [], []
    with evaluating(network):
        for batch in _blocks(images, view, batch_size):
            found = network(as_floats(batch.to(device)))
            averages.append(pooled(found, "avg").cpu())
            maxima.append(pooled(found, "max").cpu())
    return {"avg": torch.cat(averages), "max": torch.cat(maxima)}


def _combined(maps: dict[str, Tensor], pooling: str) -> NDArray[np.float32]:
    found = maps["avg"] + maps["max"] if pooling == "avg+max" else maps[pooling]
    return found.numpy()


def _write(path: Path, images: ImageSet, maps: dict[str, Tensor], source: dict[str, Any]) -> None:
    ids = torch.frombuffer(bytearray("\n".join(images.ids.tolist()).encode()), dtype=torch.uint8)
    meta = {key: str(value) for key, value in source.items()}
    with replacing(path) as temporary:
        save_file({**maps, "ids": ids}, temporary, metadata=meta)


def _read(path: Path, pooling: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    needed = ("avg", "max") if pooling == "avg+max" else (pooling,)
    try:
        with safe_open(path, framework="pt") as file:
            ids = bytes(file.get_tensor("ids").numpy()).decode().split("\n")
            maps = {name: file.get_tensor(name) for name in needed}
    except (SafetensorError, OSError):  # a torn file of an older version: embed again
        return None
    return {"ids": np.array(ids), "vectors": _combined(maps, pooling)}


def _in_order(have: Names, vectors: NDArray[np.float32], want: Names) -> NDArray[np.float32]:
    if np.array_equal(have, want):
        return vectors
    order = np.argsort(have)
    return vectors[order[np.searchsorted(have[order], want)]]
