"""No training: the backbone's own features, the baseline that training should beat."""

from typing import ClassVar

from torch import nn

from oodml.methods._base import BaseMethod
from oodml.model import IdentityHead


class Method(BaseMethod):
    """Pooled features of the backbone, scaled to length one."""

    trains: ClassVar[bool] = False

    def head(self) -> nn.Module:
        return IdentityHead()
