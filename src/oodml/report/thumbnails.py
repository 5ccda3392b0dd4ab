"""Thumbnails of images as data URIs, for embedding in a page."""

import base64
import io
from collections.abc import Iterable

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet


def thumbnails(
    images: ImageSet | None, ids: Iterable[str], pixels: int, budget: int
) -> dict[str, str]:
    """Data URIs of images, by id.

    Args:
        images: the images, or None.
        ids: the ids of the images; ids that the set does not contain are skipped.
        budget: the total size in bytes at which to stop.
    """
    if images is None:
        return {}
    rows = {name: row for row, name in enumerate(images.ids.tolist())}
    uris: dict[str, str] = {}
    spent = 0
    for name in dict.fromkeys(ids):
        if name not in rows:
            continue
        try:
            uri = _data_uri(images, rows[name], pixels)
        except (OodmlError, OSError):  # the page shows the name instead
            continue
        spent += len(uri)
        if spent > budget:
            break
        uris[name] = uri
    return uris


def _data_uri(images: ImageSet, row: int, pixels: int) -> str:
    image = images.read(row)
    image.thumbnail((pixels, pixels))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=78, method=2)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
