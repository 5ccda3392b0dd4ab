"""A loss combined with its miner, on prefixes of the embedding, or with a memory of batches."""

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodml import catalog
from oodml.errors import OodmlError
from oodml.losses._base import accepts_triplets
from oodml.shapes import Labels, Scalar, Vectors
from oodml.vectors import VectorSet


class MinedLoss(nn.Module):
    """A loss, computed on the triplets of a miner if one is named.

    Args:
        n_classes: number of classes, passed to losses that have this option.
        dim: dimension of the embedding, passed to losses that have this option.
        loss: name or import path of the loss.
        miner: name or import path of the miner; None or "" for none.
        class_names: names of the classes, for losses with the option `class_vectors`.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        loss: str,
        miner: str | None = None,
        loss_options: dict[str, Any] | None = None,
        miner_options: dict[str, Any] | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        accepted = inspect.signature(catalog.get_class("losses", loss)).parameters
        options: dict[str, Any] = {"n_classes": n_classes, "dim": dim}
        options = {name: size for name, size in options.items() if name in accepted}
        options |= loss_options or {}
        if "class_vectors" in accepted and not isinstance(options.get("class_vectors"), Tensor):
            options["class_vectors"] = embed_class_names(class_names, options.get("class_vectors"))
        self.loss = catalog.load("losses", loss, **options)
        self.miner = catalog.load("miners", miner, **(miner_options or {})) if miner else None
        if "labels" not in inspect.signature(self.loss.forward).parameters:
            problem = (
                f"loss {loss!r} is not computed from embeddings and labels, but part of a method: "
                "moco and fast_moco of method moco, s2sd of s2sd, adversarial_separation of diva"
            )
            raise OodmlError(problem, "loss", loss)
        if miner and not accepts_triplets(self.loss):
            problem = (
                f"loss {loss!r} takes no triplets, so miner {miner!r} would have no effect; "
                "remove miner or choose another loss"
            )
            raise OodmlError(problem, "miner", miner)

    def forward(
        self,
        embeddings: Vectors,
        labels: Labels,
        generator: torch.Generator,
        anchors: int | None = None,
    ) -> Scalar:
        """Return the loss of a batch.

        Args:
            generator: source of randomness of the miner, and of losses that draw numbers.
            anchors: mined triplets of later rows are ignored; None keeps all.
        """
        accepted = inspect.signature(self.loss.forward).parameters
        if self.miner is None:
            drawn = {"generator": generator} if "generator" in accepted else {}
            return self.loss(embeddings, labels, **drawn)  # type: ignore[no-any-return]
        masked = getattr(self.miner, "masked", None)
        if masked is None or "valid" not in accepted:
            triplets = self.miner(embeddings.detach(), labels, generator)
            if anchors is not None:
                triplets = triplets[triplets[:, 0] < anchors]
            return self.loss(embeddings, labels, triplets)  # type: ignore[no-any-return]
        triplets, valid = masked(embeddings.detach(), labels, generator)
        if anchors is not None:
            valid = valid & (triplets[:, 0] < anchors)
        return self.loss(embeddings, labels, triplets, valid)  # type: ignore[no-any-return]

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The loss's own optimizer groups if it defines any, else one with all its parameters."""
        if hasattr(self.loss, "parameter_groups"):
            return self.loss.parameter_groups(lr)  # type: ignore[no-any-return]
        parameters = list(self.loss.parameters())
        return [{"params": parameters, "lr": lr, "weight_decay": 0.0}] if parameters else []


class Matryoshka(nn.Module):
    """Mean of a loss over prefixes of the embedding (Kusupati et al. 2022, arXiv 2205.13147).

    Prefixes are scaled to unit length if the embedding has unit length. The paper sums the losses.

    Args:
        losses: the loss of each prefix.
        dims: the length of each prefix.
    """

    def __init__(self, losses: Iterable[MinedLoss], dims: Sequence[int]) -> None:
        super().__init__()
        self.losses, self.dims = nn.ModuleList(losses), tuple(dims)

    def forward(
        self,
        embeddings: Vectors,
        labels: Labels,
        generator: torch.Generator,
        anchors: int | None = None,
    ) -> Scalar:
        """Return the loss of a batch; see `MinedLoss`."""
        length = embeddings.norm(dim=1, keepdim=True)
        scaled = ((length - 1).abs() < 1e-3).all()
        values = []
        for loss, dim in zip(self.losses, self.dims, strict=True):
            prefix = embeddings[:, :dim]
            prefix = torch.where(scaled, normalize(prefix, dim=1), prefix)
            values.append(loss(prefix, labels, generator, anchors))
        return torch.stack(values).mean()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The optimizer groups of all losses."""
        return groups_of(self.losses, lr)


class CrossBatchMemory(nn.Module):
    """A loss on a batch together with the embeddings of earlier batches (XBM, arXiv 1912.06798).

    The remembered rows receive no gradient. They are positives and negatives of the batch; losses
    without triplets also compare them with each other, which changes no gradient.

    Args:
        loss: the loss.
        size: number of remembered rows.
        start: number of steps before the memory is used.
    """

    def __init__(self, loss: MinedLoss | Matryoshka, size: int, start: int = 0) -> None:
        super().__init__()
        self.loss, self.size, self.start, self.step = loss, size, start, 0
        self.rows: Tensor | None = None
        self.labels: Tensor | None = None

    def forward(self, embeddings: Vectors, labels: Labels, generator: torch.Generator) -> Scalar:
        """Return the loss of a batch and append the batch to the memory."""
        rows, known, n = embeddings, labels, len(labels)
        if self.rows is not None and self.labels is not None and self.step >= self.start:
            rows, known = torch.cat([rows, self.rows.to(rows)]), torch.cat([known, self.labels])
        value: Tensor = self.loss(rows, known, generator, n)
        self.step += 1
        kept, own = embeddings.detach(), labels
        if self.rows is not None and self.labels is not None:
            kept = torch.cat([kept, self.rows.to(kept)])
            own = torch.cat([own, self.labels])
        self.rows, self.labels = kept[: self.size], own[: self.size]
        return value

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The optimizer groups of the loss."""
        return self.loss.parameter_groups(lr)

    def get_extra_state(self) -> dict[str, Any]:
        return {"rows": self.rows, "labels": self.labels, "step": self.step}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.rows, self.labels, self.step = state["rows"], state["labels"], state["step"]


def groups_of(losses: Iterable[nn.Module], lr: float) -> list[dict[str, Any]]:
    """The optimizer groups of the mined losses among some modules."""
    mined = (loss for loss in losses if isinstance(loss, MinedLoss | Matryoshka | CrossBatchMemory))
    return [group for loss in mined for group in loss.parameter_groups(lr)]


def embed_class_names(
    names: Sequence[str], source: str | None = None
) -> Float[Tensor, "c t"] | None:
    """One vector per class name; None without names.

    Args:
        names: names of the classes.
        source: a file of vectors whose classes include the names (the vectors of a class are
            averaged), or the import path `package.module:function` of a function from a list of
            names to vectors [c t], such as a text model. By default, counts of letter trigrams.

    Raises:
        OodmlError: if a class has no vector, or the vectors have the wrong shape.
    """
    if not names:
        return None
    if source is None:
        return trigram_counts(names)
    if not Path(source).exists() and ":" in source:
        vectors = torch.as_tensor(np.asarray(catalog.import_object(source)(list(names)))).float()
        if vectors.ndim != 2 or len(vectors) != len(names):
            given = tuple(vectors.shape)
            message = (
                f"{source}: returned an array {list(given)}; expected [{len(names)} t], one row "
                "per class name"
            )
            raise OodmlError(message, "class_vectors", given)
        return vectors
    stored = VectorSet.load(source)
    missing = sorted(set(names) - set(stored.classes.tolist()))
    if missing:
        problem = f"{source}: no vector for the class {missing[0]!r} ({len(missing)} are missing)"
        raise OodmlError(problem, "class_vectors", missing)
    means = [stored.vectors[stored.classes == name].mean(0) for name in names]
    return torch.from_numpy(np.stack(means)).float()


def trigram_counts(names: Sequence[str]) -> Float[Tensor, "c t"]:
    """How often each sequence of three letters of all names occurs in each name."""
    padded = [f"  {name.lower()} " for name in names]
    parts = [[text[i : i + 3] for i in range(len(text) - 2)] for text in padded]
    columns = {part: i for i, part in enumerate(sorted({one for some in parts for one in some}))}
    counts = torch.zeros(len(names), len(columns))
    for row, some in enumerate(parts):
        for part in some:
            counts[row, columns[part]] += 1
    return counts
