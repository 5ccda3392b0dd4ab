"""Which images a model reads: the files themselves, or resized images from the pixel cache."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from oodml.backbones import load_backbone
from oodml.datasets import data_line
from oodml.images.fingerprint import Log, check_files, no_log, refuse_corrupt
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import fill_pixel_cache, resized_images
from oodml.images.transforms import recipe, sufficient_short
from oodml.model import FinetuneSettings, ModelSettings


def input_short(settings: ModelSettings) -> int | None:
    """The short side that a model's images on disk are resized to; None to read the files, as
    models on cached features do, which read every image only once per view."""
    if not isinstance(settings, FinetuneSettings) or settings.input_cache == "off":
        return None
    if settings.input_cache != "auto":
        return settings.input_cache
    size = settings.image_size or _default_size(settings.backbone)
    return sufficient_short(recipe(settings.augmentation), size)


def planned_short(images: ImageSet, settings: ModelSettings) -> int | None:
    """The short side that these images are resized to for a model; None to read the files."""
    return input_short(settings) if type(images) is ImageSet and images.pixels is None else None


def input_images(
    images: ImageSet, settings: ModelSettings, *, fill_cache: bool = True, log: Log = no_log
) -> ImageSet:
    """The images that a model reads in training and testing, with and without a filled cache."""
    short = planned_short(images, settings)
    if short is None:
        return images
    return resized_images(images, short, fill_cache=fill_cache, log=log)


def check_images(
    images: ImageSet, models: Iterable[ModelSettings], log: Log, source: Mapping[str, Any]
) -> None:
    """Fill the pixel cache for some models and refuse corrupt images; one decoding does both. The
    error has the name and options of their source in the study file."""
    shorts = {planned_short(images, model) for model in set(models)} - {None}
    cached = [fill_pixel_cache(images, short, log) for short in shorts if short is not None]
    records = cached[0] if cached else check_files(images, log)
    line = data_line(source["name"], **source["options"] | {"skip_corrupt": True})
    advice = f"Repair or remove them, or write `{line}` in the study file. Nothing was started."
    refuse_corrupt(images, records.problems.tolist(), advice)


@lru_cache
def _default_size(backbone: str) -> int:
    return load_backbone(backbone, "none").image_size
