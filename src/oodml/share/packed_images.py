"""The images of a packed study: ids and classes, and thumbnails of some of them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.vectors import VectorSet

PACKED_IMAGES = "images.parquet"


@dataclass(frozen=True)
class PackedImages(ImageSet):
    """Images of which only thumbnails exist, if anything."""

    thumbnails: Mapping[str, bytes] = field(default_factory=dict)

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        name = str(self.ids[index])
        if name not in self.thumbnails:
            raise OodmlError(f"{name}: the pack does not contain this image", given=name)
        with Image.open(io.BytesIO(self.thumbnails[name]), formats=("WEBP",)) as image:
            return image.convert("RGB")


def write_packed_images(
    images: ImageSet | VectorSet, thumbnails: Mapping[str, bytes], path: Path
) -> None:
    """Write the id, class, superclass, and thumbnail (WebP) of each image to a Parquet file."""
    columns = {"id": images.ids.tolist(), "class": images.classes.tolist()}
    if images.superclasses is not None:
        columns["superclass"] = images.superclasses.tolist()
    columns["thumbnail"] = [thumbnails.get(name) for name in columns["id"]]
    pd.DataFrame(columns).sort_values("id").to_parquet(path, index=False)


def read_packed_images(path: Path, name: str) -> PackedImages:
    try:
        table = pd.read_parquet(path)
        pictures = dict(zip(table["id"], table["thumbnail"], strict=True))
        text = {key: table[key].to_numpy(dtype=np.str_) for key in table if key != "thumbnail"}
        return PackedImages(
            name,
            text["id"],
            text["class"],
            text.get("superclass"),
            root=Path(),
            thumbnails={key: value for key, value in pictures.items() if value is not None},
        )
    except (OSError, ValueError, KeyError) as error:
        raise OodmlError(f"{path}: damaged ({error})", location=str(path)) from error
