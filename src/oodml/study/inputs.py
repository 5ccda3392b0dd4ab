"""What is done with a study's images before any run starts: kept small, and checked."""

from collections.abc import Iterable

from oodml.images.contents import Say, contents, refuse_corrupt
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import input_short, keep_pixels, keepable
from oodml.model import ModelSettings

REPAIR = (
    'Repair or remove them, or leave them out: data = {name = "…", skip_corrupt = true}. '
    "Nothing was started."
)


def check_images(images: ImageSet, models: Iterable[ModelSettings], say: Say) -> None:
    """Keep the pixels that models will read, and refuse corrupt images; one decoding does both.

    What is kept or known already is not done again. Raises OodmlError naming corrupt images.
    """
    shorts = {planned_short(images, model) for model in set(models)} - {None}
    known = [keep_pixels(images, short, say) for short in shorts if short is not None]
    found = known[0] if known else contents(images, say)
    refuse_corrupt(images, found.problems.tolist(), REPAIR)


def planned_short(images: ImageSet, model: ModelSettings) -> int | None:
    """The short side that larger images are brought to before a model sees them; None if not."""
    return input_short(model) if keepable(images) else None
