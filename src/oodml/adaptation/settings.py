"""Settings of few-shot adaptation."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from oodml import catalog
from oodml.errors import unknown

_PAPER = BeforeValidator(lambda value: None if value == "paper" else value)


def _check_objective(name: str) -> str:
    known = catalog.names("few_shot_adapters")
    if name not in known and ":" not in name:
        message = str(unknown("objective", name, known))
        raise PydanticCustomError("objective", "{message}", {"message": message})
    return name


class AdaptSettings(BaseModel):
    """How to adapt; the defaults are those of the paper, with fewer and larger steps.

    Attributes:
        objective: the adapter: a loss to minimize ("margin", "multisimilarity", "triplet"), a
            closed-form baseline ("prototypes": the embedding centered at the mean of the support
            classes, "linear": ridge regression on the classes), or an import path.
        layers: "last" adapts the last layer on features of the frozen backbone; "all" adapts the
            whole network on images.
        iterations: the number of steps; "paper" (None in Python) is 1000 for 2 shots and 1500
            for 5, interpolated linearly and at least 1000.
        optimizer: the optimizer of the heads and of β.
        lr: learning rate of the head; the paper's is 1e-4.
        beta_lr: learning rate of the margin loss's β.
        momentum: of "sgd".
        batch_size: images per batch.
        per_class: images per class in a batch. With too few classes to fill a batch, it contains
            all classes and more images of each.
        margin: of "margin" and "triplet".
        beta: the initial β of each support class.
        views: the number of augmented views of each support image, computed once; a batch uses a
            random one.
        ridge: the weight of the squared norm of the weights of "linear".
        metrics: what to measure before and after: metrics of `oodml.retrieval_metrics`, and
            "accuracy", the fraction of queries whose nearest class mean of the support images is
            that of their own class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Annotated[str, AfterValidator(_check_objective)] = "margin"
    layers: Literal["last", "all"] = "last"
    iterations: Annotated[int | None, _PAPER] = Field(default=300, ge=0)
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=2e-4, gt=0)
    beta_lr: float = Field(default=5e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=112, ge=4)
    per_class: int = Field(default=2, ge=2)
    margin: float = Field(default=0.2, ge=0)
    beta: float = 1.2
    views: int = Field(default=4, ge=1)
    ridge: float = Field(default=1.0, gt=0)
    metrics: tuple[str, ...] = Field(default=("recall@1", "map@1000"), min_length=1)

    @property
    def closed_form(self) -> bool:
        """Whether the objective needs neither steps nor augmented views."""
        return bool(catalog.get_class("few_shot_adapters", self.objective).closed_form)

    def steps(self, shots: int) -> int:
        """The number of steps for a number of support images per class."""
        if self.closed_form:
            return 0
        if self.iterations is not None:
            return self.iterations
        return max(1000, 1000 + 500 * (shots - 2) // 3)
