"""Image sets: decoding, fingerprints, the pixel cache, transforms, and loading."""

from oodml.images.image_set import ImageSet as ImageSet
