"""Triplet loss on squared distances with distance-weighted negatives."""

from torch import Tensor
from torch.func import vmap

from oodml.few_shot_adapters._base import TripletAdapter
from oodml.losses.triplet import triplet_of_squared


class Adapter(TripletAdapter):
    """One triplet per anchor; uses `margin` of the settings."""

    def losses_of_squared(
        self, positive: Tensor, negative: Tensor, valid: Tensor, beta: Tensor
    ) -> Tensor:
        """The triplet loss of each episode."""
        return vmap(triplet_of_squared, (0, 0, 0, None))(
            positive, negative, valid, self.settings.margin
        )
