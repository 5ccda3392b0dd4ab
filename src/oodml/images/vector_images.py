"""Images of which only vectors are given: the data of a study on a user's own embeddings."""

from dataclasses import dataclass

from PIL import Image

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet


@dataclass(frozen=True, repr=False)
class VectorImages(ImageSet):
    """A collection without pictures; `pixels` contains the vector [d] of each row."""

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        """Raise OodmlError: there are no pixels."""
        raise pixels_error(self.name)


def pixels_error(name: str, location: str = "data") -> OodmlError:
    """The error where something needs pixels but the data are vectors."""
    return OodmlError(
        f"{name}: the data are vectors, without pixels. Training a whole network, adapting all "
        "layers, and embedding with another network need a folder or table of images",
        location,
        name,
    )
