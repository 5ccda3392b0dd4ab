"""What a method promises: loss terms that train a head, in the modes that it names."""

import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodml.backbones import load_backbone
from oodml.contract.promise import Advice, Broken, Make, NotPromised, Promise, explained
from oodml.contract.samples import squares
from oodml.embedding import embed
from oodml.methods._base import BaseMethod, Sizes
from oodml.model import Embedder, LinearHead, load_model, parse_model_settings
from oodml.randomness import isolated
from oodml.training.checkpoint import Checkpoint
from oodml.training.loop import train
from oodml.training.settings import TrainSettings
from oodml.training.sources import FeatureSource, ImageSource, Source

CLASSES, DIM, SIDE = 6, 8, 24
WIDTHS = {"finetune": 96, "head": 768}
"""Features of the networks that are tried: the small one, and the pixels themselves."""


def made(make: Make, mode: str) -> tuple[Embedder, BaseMethod]:
    """A model and the method, as a run makes them."""
    with isolated(0):
        settings = parse_model_settings(
            {"backbone": "small", "mode": mode, "dim": DIM, "image_size": SIDE}
        )
        backbone = load_backbone("small") if mode == "finetune" else None
        model = Embedder(settings, torch.nn.Identity(), backbone)
        method = make(sizes=Sizes(CLASSES, DIM, WIDTHS[mode]))
        model.head = method.head() or LinearHead(WIDTHS[mode], DIM)
    return model, method


def trained(
    make: Make, mode: str, epochs: int = 2, checkpoint: Checkpoint | None = None
) -> tuple[Embedder, list[dict[str, float]]]:
    """The model after some epochs on tiny images, and the history.

    checkpoint: where to go on from, and to write.
    """
    images = squares(CLASSES)
    model, method = made(make, mode)
    source: Source = ImageSource(images, images.labels, SIDE, "gentle")
    if mode == "head":
        views = [
            embed(images, "pixels", view=v, augmentation="gentle", cache=False).vectors
            for v in range(2)
        ]
        source = FeatureSource(torch.from_numpy(np.stack(views)), images.labels)
    settings = TrainSettings.model_validate({"epochs": epochs, "batch_size": 12, "lr": 1e-3})
    with isolated(1):
        history = train(
            model,
            method,
            source,
            settings,
            seed=0,
            device=torch.device("cpu"),
            checkpoint=checkpoint,
        )
    return model, history.rows


def modes(make: Make) -> list[str]:
    """The modes in which the method trains."""
    method = made(make, "finetune")[1]
    if not method.trains:
        raise NotPromised("it does not train")
    return [mode for mode in WIDTHS if not method.modes.get(mode, "it is not named")]


def it_is_a_method(make: Make) -> None:
    """It is a BaseMethod that names its training modes and takes one view or two."""
    method = made(make, "finetune")[1]
    if not isinstance(method, BaseMethod):
        raise Broken(f"it is a {type(method).__name__}", "Derive it from oodml.methods._base."
                     "BaseMethod and call super().__init__(sizes)")  # fmt: skip
    unknown = set(method.modes) - set(WIDTHS)
    if unknown or all(method.modes.values()) or method.n_views not in (1, 2):
        raise Broken(
            f"modes {method.modes}, n_views {method.n_views}",
            f"Let modes say of each of {', '.join(WIDTHS)} why it makes no sense, '' where it "
            "does; n_views is 1 or 2",
        )


def it_trains(make: Make) -> None:
    """Two epochs on tiny data keep every loss term finite and change the model, in each mode."""
    for mode in modes(make):
        before = made(make, mode)[0].trained.state_dict()
        model, history = trained(make, mode)
        after = model.trained.state_dict()
        if not all(np.isfinite(value) for row in history for value in row.values()):
            raise Broken(f"{mode}: {history}", "Guard divisions, roots and logarithms")
        if all(torch.equal(before[key], after[key]) for key in before):
            raise Broken(f"{mode}: no weight has moved", "Compute the terms from batch.outputs or "
                         "batch.features, without detach()")  # fmt: skip


def it_trains_the_same_way_twice(make: Make) -> None:
    """Two trainings from one seed are equal to the bit."""
    for mode in modes(make):
        (model, history), (again, same) = trained(make, mode), trained(make, mode)
        ours, theirs = model.trained.state_dict(), again.trained.state_dict()
        if history != same or any(not torch.equal(ours[key], theirs[key]) for key in ours):
            raise Broken(f"{mode}: two trainings differ", "Draw with batch.generator only, and "
                         "keep nothing between trainings outside the method")  # fmt: skip


def it_goes_on_where_it_was_stopped(make: Make) -> None:
    """A training that was stopped and goes on from a checkpoint is equal to one that was not."""
    for mode in modes(make):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder) / "half.pt", "check", every=0.0)
            trained(make, mode, 1, checkpoint)
            if checkpoint.find() is None:
                raise Broken(f"{mode}: the checkpoint cannot be saved or loaded", REMEMBER)
            model, history = trained(make, mode, 2, checkpoint)
        whole, expected = trained(make, mode, 2)
        ours, theirs = model.trained.state_dict(), whole.trained.state_dict()
        if history != expected or any(not torch.equal(ours[key], theirs[key]) for key in ours):
            raise Broken(f"{mode}: a resumed training differs from one without a stop", REMEMBER)


REMEMBER = (
    "Keep state that lasts from step to step in parameters and buffers, or return it from "
    "get_extra_state() and restore it in set_extra_state(): tensors, numbers, text, and lists, "
    "tuples, or dictionaries of these, such as the state_dict() of an optimizer"
)


def groups_hold_every_parameter(make: Make) -> None:
    """Its optimiser groups, with its own optimisers, hold every parameter once."""
    model, method = made(make, modes(make)[0])
    method.prepare(model)
    held = [id(p) for group in _groups(method) for p in group["params"]]
    shared = {id(p) for p in model.parameters()}
    own = {id(p) for p in method.parameters() if p.requires_grad}
    names = {id(p): name for name, p in method.named_parameters()}
    for wrong, what in (
        (own - set(held) - shared, "no optimiser trains"),
        ({p for p in held if held.count(p) > 1}, "two groups train"),
        (set(held) & shared, "the model's optimiser trains already"),
    ):
        if wrong:
            told = ", ".join(names.get(p, "a parameter of the head") for p in wrong)
            raise Broken(f"{what} {told}", "Let parameter_groups(lr) give each parameter once; "
                         "what an own optimiser trains stays out")  # fmt: skip


def _groups(method: BaseMethod) -> Iterator[dict[str, Any]]:
    yield from method.parameter_groups(1e-3)
    for value in vars(method).values():
        if isinstance(value, torch.optim.Optimizer):
            yield from value.param_groups


def a_saved_head_comes_back(make: Make) -> None:
    """A saved model embeds as before."""
    modes(make)
    model, _ = made(make, "finetune")
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model.save(Path(folder))
        found: Tensor = load_model(folder, trust_code=True)(images)
        expected: Tensor = model.eval()(images)
    if not torch.allclose(found, expected, atol=1e-6):
        raise Broken(
            "it embeds otherwise",
            "Give the head an attribute `options`, the arguments that make it again, and keep its "
            "state in parameters and buffers",
        )


def embeddings_are_one_row_an_image(make: Make) -> None:
    """Its head embeds as many rows as it is given, alike alone and in a batch."""
    model, _ = made(make, "head")
    features = torch.randn(5, WIDTHS["head"], generator=torch.Generator().manual_seed(0))
    head: Any = model.head.eval()
    with torch.inference_mode():
        outputs, found, alone = head(features), head.embed(features), head.embed(features[:1])
    if "embedding" not in outputs or found.ndim != 2 or len(found) != 5:
        raise Broken(
            f"outputs {list(outputs)}, embedding {tuple(found.shape)}",
            'Let head() give a module with outputs by name, one "embedding", and with embed()',
        )
    if not torch.allclose(found[:1], alone, atol=1e-5):
        raise Broken("an image's embedding depends on the others", "Use no batch statistics in "
                     "evaluation mode")  # fmt: skip


def options_have_defaults(make: Make) -> None:
    """Every option has a default, or was given."""
    given = getattr(make, "options", {})
    parameters = list(inspect.signature(type(made(make, "finetune")[1])).parameters.values())[1:]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    needed = [name for name in needed if name not in given]
    if needed:
        raise Advice(f"{', '.join(needed)} must be given", "Give it a default that is sensible")


def options_are_explained(make: Make) -> None:
    """Its docstring says what its options mean."""
    explained(type(made(make, "finetune")[1]), ("sizes",))


PROMISES: tuple[Promise, ...] = (
    it_is_a_method,
    it_trains,
    it_trains_the_same_way_twice,
    it_goes_on_where_it_was_stopped,
    groups_hold_every_parameter,
    a_saved_head_comes_back,
    embeddings_are_one_row_an_image,
    options_have_defaults,
    options_are_explained,
)
