"""Margin loss with a learnable β per support class and distance-weighted negatives."""

from torch import Tensor
from torch.func import vmap

from oodml.few_shot_adapters._base import TripletAdapter
from oodml.losses.margin import margin_of_squared


class Adapter(TripletAdapter):
    """One triplet per anchor; uses `margin` and `beta` of the settings."""

    def losses_of_squared(
        self, positive: Tensor, negative: Tensor, valid: Tensor, beta: Tensor
    ) -> Tensor:
        """The margin loss of each episode."""
        return vmap(margin_of_squared, (0, 0, 0, 0, None))(
            positive, negative, beta, valid, self.settings.margin
        )
