"""The weights of the selected epoch."""

from typing import Any

from oodml.errors import unknown
from oodml.model import Embedder

Metrics = dict[str, float]


class BestWeights:
    """The weights of the epoch with the best validation metric.

    Before the first evaluation, and without validation classes, these are the latest weights.

    Args:
        model: the model before training, which counts as epoch 0.
        select: the metrics to maximize, joined by "+".
    """

    def __init__(self, model: Embedder, select: str) -> None:
        self.select = select.split("+")
        self.best = float("-inf")
        self.metrics: Metrics = {}
        self._store(model, 0)

    def update(self, model: Embedder, epoch: int, metrics: Metrics | None) -> None:
        """Take the weights after an epoch into account.

        Args:
            metrics: metrics of the validation classes, or None if they were not evaluated.
        """
        if metrics is None:
            if not self.metrics:
                self._store(model, epoch)
            return
        value = self.score(metrics)
        if value > self.best:
            self.best, self.metrics = value, metrics
            self._store(model, epoch)
        elif not self.metrics:
            self._store(model, epoch)

    def restore(self, model: Embedder) -> None:
        """Load the weights of the selected epoch into the model."""
        model.trained.load_state_dict(self.weights)

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """The state for a checkpoint after `epoch`; weights equal to the model's are left out."""
        weights = {} if self.epoch == epoch else self.weights
        return {"best": self.best, "metrics": self.metrics, "epoch": self.epoch, "weights": weights}

    def load_state_dict(self, model: Embedder, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Args:
            model: the model with the weights of the same checkpoint.
        """
        self.best, self.metrics = state["best"], state["metrics"]
        self._store(model, state["epoch"])
        if state["weights"]:
            self.weights = state["weights"]

    def score(self, metrics: Metrics) -> float:
        """The value that is maximized."""
        for name in self.select:
            if name not in metrics:
                raise unknown("metric", name, metrics, "train.select")
        return sum(metrics[name] for name in self.select)

    def _store(self, model: Embedder, epoch: int) -> None:
        self.epoch = epoch
        state = model.trained.state_dict()
        self.weights = {name: tensor.clone() for name, tensor in state.items()}
