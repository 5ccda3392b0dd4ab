"""The losses of adaptation for all episodes at once: one value an episode.

Every batch of every episode has the same layout, so one row of labels serves all.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import vmap

from oodml.losses._base import squared_distances
from oodml.losses.margin import margin_of_squared
from oodml.losses.multisimilarity import multisimilarity_loss
from oodml.losses.triplet import triplet_of_squared
from oodml.miners.distance import Miner

Embeddings = Float[Tensor, "e b d"]
Triplets = tuple[Int[Tensor, "e b 3"], Bool[Tensor, "e b"]]


def margin(
    embeddings: Embeddings, triplets: Triplets, beta: Float[Tensor, "e b"], margin: float
) -> Float[Tensor, " e"]:
    """Margin loss of one triplet an anchor. beta: of the class of each image."""
    positive, negative = _squared(embeddings, triplets[0])
    return vmap(margin_of_squared, (0, 0, 0, 0, None))(
        positive, negative, beta, triplets[1], margin
    )


def triplet(embeddings: Embeddings, triplets: Triplets, margin: float) -> Float[Tensor, " e"]:
    """Triplet loss on squared distances, of one triplet an anchor."""
    positive, negative = _squared(embeddings, triplets[0])
    return vmap(triplet_of_squared, (0, 0, 0, None))(positive, negative, triplets[1], margin)


def multisimilarity(embeddings: Embeddings, labels: Int[Tensor, " b"]) -> Float[Tensor, " e"]:
    """Multi-similarity loss; labels: which images of a batch are of one class."""
    return vmap(multisimilarity_loss, (0, None))(embeddings, labels)


@torch.no_grad()
def mine(
    embeddings: Embeddings, labels: Int[Tensor, " b"], uniform: Float[Tensor, "e 2 b"]
) -> Triplets:
    """A random positive of each image and a distance-weighted negative; which are triplets.

    uniform: numbers in [0, 1) that choose the positive and the negative.
    """
    # Shared labels would make `searchsorted` in the miner copy its input, and warn of it.
    found: Triplets = vmap(Miner().choose)(
        embeddings.detach(), labels.expand(len(embeddings), -1), uniform
    )
    return found


def _squared(
    embeddings: Embeddings, triplets: Int[Tensor, "e b 3"]
) -> tuple[Float[Tensor, "e b"], Float[Tensor, "e b"]]:
    """The squared distances of each image to its positive and to its negative.

    Rows are taken from all episodes' embeddings laid end to end: the gradient of the batched
    indexing that `vmap` makes of the losses' own is three times slower.
    """
    episodes, batch, dim = embeddings.shape
    first = torch.arange(episodes, device=embeddings.device)[:, None, None] * batch
    rows = (triplets + first).view(-1, 3)
    positive, negative = squared_distances(embeddings.reshape(-1, dim), rows)
    return positive.view(episodes, batch), negative.view(episodes, batch)
