"""The weights that a training keeps."""

from typing import Any

from torch import Tensor

from oodml.errors import unknown
from oodml.model import Embedder

Metrics = dict[str, float]


class Kept:
    """The best epoch's weights by the validation classes; until a look at them, the last epoch's.

    select: metrics, joined by "+", whose sum is to be high. epoch: 0 is before training.
    """

    def __init__(self, model: Embedder, select: str) -> None:
        self.select = select.split("+")
        self.best = float("-inf")
        self.metrics: Metrics = {}
        self.weights: dict[str, Tensor] = {}
        self._keep(model, 0)

    def offer(self, model: Embedder, epoch: int, metrics: Metrics | None) -> None:
        """A whole epoch is over; metrics: of the validation classes, if they were looked at."""
        value = self.best if metrics is None else self._value(metrics)
        if metrics is not None and value > self.best:
            self.best, self.metrics = value, metrics
            self._keep(model, epoch)
        elif not self.metrics:
            self._keep(model, epoch)

    def restore(self, model: Embedder) -> None:
        """Bring the model to the weights kept."""
        model.trained.load_state_dict(self.weights)

    def state(self, epoch: int) -> dict[str, Any]:
        """Plain values to go on from; the weights only if they are not those of this epoch."""
        weights = {} if self.epoch == epoch else self.weights
        return {
            "best": self.best,
            "metrics": self.metrics,
            "epoch": self.epoch,
            "weights": weights,
        }

    def load_state(self, model: Embedder, state: dict[str, Any]) -> None:
        """Go on from `state`, with the model at the epoch of that state."""
        self.best, self.metrics = state["best"], state["metrics"]
        self._keep(model, state["epoch"])
        if state["weights"]:
            self.weights = state["weights"]

    def _value(self, metrics: Metrics) -> float:
        for name in self.select:
            if name not in metrics:
                raise unknown("metric", name, metrics, "train.select")
        return sum(metrics[name] for name in self.select)

    def _keep(self, model: Embedder, epoch: int) -> None:
        self.epoch = epoch
        state = model.trained.state_dict()
        self.weights = {name: tensor.clone() for name, tensor in state.items()}
