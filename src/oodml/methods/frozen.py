"""The pretrained backbone without training: the baseline of every study."""

from typing import ClassVar

from torch import nn

from oodml.methods._base import BaseMethod
from oodml.model import IdentityHead


class Method(BaseMethod):
    """Embeds images as pooled backbone features, scaled to unit length. Nothing trains."""

    trains: ClassVar[bool] = False

    def head(self) -> nn.Module:
        return IdentityHead()
