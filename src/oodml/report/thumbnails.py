"""Small copies of images, to stand inside the page."""

import base64
import io
from collections.abc import Iterable

from oodml.images.image_set import ImageSet


def thumbnails(
    images: ImageSet | None, ids: Iterable[str], pixels: int, budget: int
) -> dict[str, str]:
    """Data URIs of images by id, `pixels` at most on the longer side.

    Stops before `budget` bytes in all; ids the set does not have are left out.
    """
    if images is None:
        return {}
    place = {name: row for row, name in enumerate(images.ids.tolist())}
    found: dict[str, str] = {}
    spent = 0
    for name in dict.fromkeys(ids):
        if name not in place:
            continue
        uri = _data_uri(images, place[name], pixels)
        spent += len(uri)
        if spent > budget:
            break
        found[name] = uri
    return found


def _data_uri(images: ImageSet, row: int, pixels: int) -> str:
    image = images.read(row)
    image.thumbnail((pixels, pixels))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=78, method=2)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
