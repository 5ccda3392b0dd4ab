"""The steps of an epoch."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodml import distributed
from oodml.errors import OodmlError
from oodml.methods._base import BaseMethod, Batch
from oodml.model import Embedder
from oodml.training.settings import TrainSettings
from oodml.training.sources import Source, Views

Rows = NDArray[np.int64]
Terms = dict[str, Tensor]


class NonFiniteError(OodmlError):
    """A loss term or a weight is not finite.

    place: which, and where in the training. epoch: of the weights left in the model. labels: of
    the batch, if it is known. advice: what to do.
    """

    def __init__(self, place: str, epoch: int, advice: str, labels: Sequence[int] = ()) -> None:
        self.place, self.epoch, self.advice, self.labels = place, epoch - 1, advice, labels
        super().__init__(self.told(labels))

    def told(self, classes: Sequence[object]) -> str:
        """The message with these names of the batch's classes."""
        shown = ", ".join(map(str, classes[:8])) + (" …" if len(classes) > 8 else "")
        return f"{self.place}{f' (classes {shown})' if shown else ''}. {self.advice}"


class Steps:
    """Runs the steps of an epoch and watches that the loss and the weights stay finite."""

    def __init__(
        self,
        model: Embedder,
        method: BaseMethod,
        settings: TrainSettings,
        random: torch.Generator,
        device: torch.device,
    ) -> None:
        self.model, self.method = model, method
        self.optimizer = _optimizer(model, method, settings)
        self.random, self.device = random, device
        self.frozen = model.settings.mode == "head"
        self.autocast = settings.precision == "bf16"
        self.step = 0
        # Looking at a value waits for the GPU; there it is done for several steps at once.
        self.look_every = 1 if device.type == "cpu" else 20

    def epoch(self, number: int, source: Source, order: list[Rows], seed: int) -> dict[str, float]:
        """One pass over batches of rows; gives the mean of each loss term.

        With several processes, each is given its share of every batch of images.
        """
        own = order if self.frozen else [rows[distributed.share(len(rows))] for rows in order]
        views = source.batches(iter(own), seed, self.method.n_views)
        sums: Terms = {}
        first = self.step
        pending: list[tuple[int, Rows, Terms]] = []
        for rows, view in zip(order, views, strict=True):
            labels = source.labels[rows]
            terms = self._step(view, torch.from_numpy(labels))
            pending.append((self.step, labels, terms))
            if len(pending) >= self.look_every:
                _look(pending, number)
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value
            self.step += 1
        _look(pending, number)
        self._look_at_weights(f"epoch {number}, steps {first} to {self.step - 1}", number)
        return {name: float(value) / len(order) for name, value in sums.items()}

    def _step(self, view: Views, labels: Tensor) -> Terms:
        batch = self._batch(view, labels)
        terms = self.method.terms(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if not self.frozen:
            distributed.sum_gradients(self.model.backbone.parameters())
        self.optimizer.step()
        self.method.after_step(batch, self.model)
        return {name: value.detach() for name, value in terms.items()}

    def _look_at_weights(self, place: str, epoch: int) -> None:
        """Raise NonFiniteError if a parameter that trains is not finite: a gradient was not.

        A loss tells it only at the next step, when the weights may have been kept. A sum is finite
        if all its terms are, and the fastest to have.
        """
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        named = [("the method's ", *one) for one in self.method.named_parameters()]
        named += [("", name, p) for name, p in self.model.named_parameters() if id(p) in held]
        named = [one for one in named if one[2].requires_grad]
        if not named:
            return
        sums = torch.stack([parameter.detach().sum(dtype=torch.float32) for *_, parameter in named])
        for (whose, name, _), value in zip(named, sums.tolist(), strict=True):
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"{whose}{name} is not finite after {place}, though every loss term was",
                    epoch,
                    "Guard the gradients of roots, logarithms and divisions, or lower lr.",
                )

    def _batch(self, view: Views, labels: Tensor) -> Batch:
        encode = partial(self._encoded, len(labels))
        images = [part.to(self.device, non_blocking=True) for part in view.images]
        if self.frozen:
            features = [part.to(self.device) for part in view.features]
        else:
            features = [encode(self.model, images[0])]
        first = features[0]
        return Batch(
            features=first,
            outputs=self.model.head(first),
            labels=labels.to(self.device),
            step=self.step,
            generator=self.random,
            images=images[0] if images else None,
            second_features=features[1] if len(features) > 1 else None,
            second_images=images[1] if len(images) > 1 else None,
            encode=encode,
        )

    def _encoded(self, count: int, model: Embedder, images: Tensor) -> Tensor:
        """Features [count f] of the whole batch, from this process's share of its images."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            features = model.features(images)
        return distributed.gathered(features.float(), count)


def _look(pending: list[tuple[int, Rows, Terms]], epoch: int) -> None:
    for step, labels, terms in pending:
        for name, value in terms.items():
            if not bool(torch.isfinite(value)):
                place = f"the loss term {name!r} is {float(value)} at step {step}, in epoch {epoch}"
                advice = "Lower lr, or look at these images."
                raise NonFiniteError(place, epoch, advice, np.unique(labels).tolist())
    pending.clear()


def _optimizer(
    model: Embedder, method: BaseMethod, settings: TrainSettings
) -> torch.optim.Optimizer:
    head_mode = model.settings.mode == "head"
    lr = settings.lr or (1e-3 if head_mode else 1e-5)
    head_lr = settings.head_lr or lr
    decay = settings.weight_decay
    groups = [{"params": list(model.head.parameters()), "lr": head_lr, "weight_decay": decay}]
    if not head_mode:
        backbone = list(model.backbone.parameters())
        groups.append({"params": backbone, "lr": lr, "weight_decay": decay})
    groups += method.parameter_groups(lr)
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)
