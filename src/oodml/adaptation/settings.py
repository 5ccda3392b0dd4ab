"""How a head is adapted to the support images of an episode."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Objective = Literal["margin", "multisimilarity", "triplet", "prototypes", "linear"]
BASELINES = ("prototypes", "linear")


class AdaptSettings(BaseModel):
    """How, how long and how fast to adapt; the defaults are the paper's.

    objective: a loss to take steps with, or a baseline in closed form: "prototypes" embeds by the
        similarity to the mean of each support class, "linear" by ridge regression on the classes.
    layers: "last" adapts the last layer, on features of a frozen trunk; "all" the whole network,
        through its images.
    iterations: steps; None is the paper's 1000 for 2 shots and 1500 for 5, on that line between
        and beyond, at least 1000.
    lr: of the head, ten times that of the training before; beta_lr: of margin's β.
    optimizer: of the heads and of β. momentum: of "sgd"; Adam has its own.
    batch_size: images a batch, `per_class` different ones of each class; with fewer classes than
        that, every batch holds all classes and as many images of each as there are.
    beta: where the β of each support class starts. margin: of "margin" and "triplet".
    views: augmented views of each support image, made once; a batch takes one at random.
    ridge: weight of the squared length of the weights of "linear".
    metrics: what is measured before and after, of `oodml.retrieval_metrics`, and "accuracy": the
        share of queries nearest to the mean embedding of their own class's support images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Objective = "margin"
    layers: Literal["last", "all"] = "last"
    iterations: int | None = Field(default=None, ge=0)
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=1e-4, gt=0)
    beta_lr: float = Field(default=5e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=112, ge=4)
    per_class: int = Field(default=2, ge=2)
    margin: float = Field(default=0.2, ge=0)
    beta: float = 1.2
    views: int = Field(default=4, ge=1)
    ridge: float = Field(default=1.0, gt=0)
    metrics: tuple[str, ...] = Field(default=("recall@1", "map@1000"), min_length=1)

    def steps(self, shots: int) -> int:
        """How many steps to take with so many support images of a class."""
        if self.objective in BASELINES:
            return 0
        if self.iterations is not None:
            return self.iterations
        return max(1000, 1000 + 500 * (shots - 2) // 3)
