"""A loss combined with its miner, on prefixes of the embedding, or with a memory of batches."""

import inspect
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from oodml import catalog
from oodml.errors import OodmlError
from oodml.losses._base import accepts_triplets
from oodml.shapes import Labels, Scalar, Vectors
from oodml.vectors import VectorSet


class MinedLoss(nn.Module):
    """A loss, computed on the triplets of a miner if one is named.

    Loss and miner are names or import paths. Losses receive `n_classes`, `dim`, and vectors of the
    class names if they have these options.
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
        sizes: dict[str, Any] = {"n_classes": n_classes, "dim": dim}
        options = {name: sizes[name] for name in sizes if name in accepted} | (loss_options or {})
        if "class_vectors" in accepted and not isinstance(options.get("class_vectors"), Tensor):
            options["class_vectors"] = embed_class_names(class_names, options.get("class_vectors"))
        self.loss = catalog.load("losses", loss, **options)
        self.miner = catalog.load("miners", miner, **(miner_options or {})) if miner else None
        self.accepted = {*inspect.signature(self.loss.forward).parameters}
        if "labels" not in self.accepted:
            problem = (
                f"loss {loss!r} is not computed from embeddings and labels, but part of a method: "
                "moco and fast_moco of method moco, s2sd of s2sd, adversarial_separation of diva"
            )
            raise OodmlError(problem, "loss", loss)
        if miner and not accepts_triplets(self.loss):
            problem = f"loss {loss!r} takes no triplets, so miner {miner!r} would have no effect"
            raise OodmlError(f"{problem}; remove miner or choose another loss", "miner", miner)

    def forward(
        self, rows: Vectors, labels: Labels, generator: Generator, anchors: int | None = None
    ) -> Scalar:
        """Return the loss of a batch; mined triplets of rows from `anchors` on are ignored."""
        arguments: tuple[Any, ...] = (rows, labels)
        if self.miner is None:
            drawn = {"generator": generator} if "generator" in self.accepted else {}
            return self.loss(*arguments, **drawn)  # type: ignore[no-any-return]
        limit = len(rows) if anchors is None else anchors
        if hasattr(self.miner, "masked") and "valid" in self.accepted:
            triplets, valid = self.miner.masked(rows.detach(), labels, generator)
            arguments += (triplets, valid if anchors is None else valid & (triplets[:, 0] < limit))
        else:
            triplets = self.miner(rows.detach(), labels, generator)
            arguments += (triplets[triplets[:, 0] < limit],)
        return self.loss(*arguments)  # type: ignore[no-any-return]

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The loss's own optimizer groups if it defines any, else one with all its parameters."""
        if hasattr(self.loss, "parameter_groups"):
            return self.loss.parameter_groups(lr)  # type: ignore[no-any-return]
        parameters = list(self.loss.parameters())
        return [{"params": parameters, "lr": lr, "weight_decay": 0.0}] if parameters else []


class Matryoshka(nn.Module):
    """Mean of losses of prefixes of the embedding, of lengths `dims` (Kusupati 2022, 2205.13147).

    Prefixes are scaled to unit length if the embedding has unit length. The paper sums the losses.
    """

    def __init__(self, losses: Iterable[MinedLoss], dims: Sequence[int]) -> None:
        super().__init__()
        self.losses, self.dims = nn.ModuleList(losses), tuple(dims)

    def forward(
        self, rows: Vectors, labels: Labels, generator: Generator, anchors: int | None = None
    ) -> Scalar:
        """Return the loss of a batch; see `MinedLoss`."""
        scaled = ((rows.norm(dim=1, keepdim=True) - 1).abs() < 1e-3).all()
        values = []
        for loss, dim in zip(self.losses, self.dims, strict=True):
            prefix = rows[:, :dim]
            prefix = torch.where(scaled, normalize(prefix, dim=1), prefix)
            values.append(loss(prefix, labels, generator, anchors))
        return torch.stack(values).mean()


class CrossBatchMemory(nn.Module):
    """A loss on a batch and `size` embeddings of earlier batches (XBM, arXiv 1912.06798).

    The remembered rows are positives and negatives of the batch after `start` steps. They receive
    no gradient; losses without triplets also compare them with each other.
    """

    def __init__(self, loss: MinedLoss | Matryoshka, size: int, start: int = 0) -> None:
        super().__init__()
        self.loss, self.size, self.start, self.step = loss, size, start, 0
        self.memory: tuple[Tensor, Tensor] | None = None

    def forward(self, embeddings: Vectors, labels: Labels, generator: Generator) -> Scalar:
        """Return the loss of a batch and append the batch to the memory."""
        rows, classes = embeddings, labels
        if self.memory is not None:
            rows = torch.cat([embeddings, self.memory[0].to(embeddings)])
            classes = torch.cat([labels, self.memory[1]])
        used = (rows, classes) if self.step >= self.start else (embeddings, labels)
        value: Tensor = self.loss(*used, generator, len(labels))
        self.step += 1
        self.memory = rows.detach()[: self.size], classes[: self.size]
        return value

    def get_extra_state(self) -> dict[str, Any]:
        return {"memory": self.memory, "step": self.step}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.memory, self.step = state["memory"], state["step"]


def groups_of(losses: nn.Module, lr: float) -> list[dict[str, Any]]:
    """The optimizer groups of the mined losses inside a module."""
    mined = (loss for loss in losses.modules() if isinstance(loss, MinedLoss))
    return [group for loss in mined for group in loss.parameter_groups(lr)]


def embed_class_names(names: Sequence[str], source: str | None = None) -> Tensor | None:
    """[c t] one vector per class name; None without names.

    The source is a file of vectors, which are averaged by class, or the import path
    `package.module:function` of a function from a list of names to vectors [c t], such as a text
    model. By default, the vectors are counts of letter trigrams.
    """
    if not names:
        return None
    if source is None:
        return trigram_counts(names)
    if not Path(source).exists() and ":" in source:
        vectors = torch.as_tensor(np.asarray(catalog.import_object(source)(list(names)))).float()
        if vectors.ndim != 2 or len(vectors) != len(names):
            given = tuple(vectors.shape)
            expected = f"expected [{len(names)} t], one row per class name"
            problem = f"{source}: returned an array {list(given)}; {expected}"
            raise OodmlError(problem, "class_vectors", given)
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
    parts = [Counter(text[i : i + 3] for i in range(len(text) - 2)) for text in padded]
    columns = sorted({part for counts in parts for part in counts})
    return torch.tensor([[float(counts[part]) for part in columns] for counts in parts])
