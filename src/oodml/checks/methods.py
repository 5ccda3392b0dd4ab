"""Requirements on a method: loss terms that train a model, in the modes that it supports."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodml.backbones import load_backbone
from oodml.checks.requirement import Make, Violation, require, skip_unless
from oodml.checks.samples import squares
from oodml.embedding import embed
from oodml.methods._base import BaseMethod, Sizes
from oodml.model import Embedder, LinearHead, load_model, parse_model_settings
from oodml.randomness import isolated
from oodml.training.checkpoint import Checkpoint
from oodml.training.loop import train
from oodml.training.settings import TrainSettings
from oodml.training.sources import BatchSource, FeatureSource, ImageSource

N_CLASSES, DIM, SIDE = 6, 8, 24
WIDTHS = {"finetune": 96, "head": 768}
"""Feature dimension in each mode: a small network, and the pixels themselves."""
STATE_REMEDY = (
    "Keep state that lasts from step to step in parameters and buffers, or in get_extra_state() "
    "and set_extra_state() as tensors, numbers, text, lists, tuples, or dictionaries"
)


def build(make: Make, mode: str) -> tuple[Embedder, BaseMethod]:
    with isolated(0):
        options = {"backbone": "small", "mode": mode, "dim": DIM, "image_size": SIDE}
        settings = parse_model_settings(options)
        backbone = load_backbone("small") if mode == "finetune" else None
        model = Embedder(settings, torch.nn.Identity(), backbone)
        method = make(sizes=Sizes(N_CLASSES, DIM, WIDTHS[mode]))
        model.head = method.head() or LinearHead(WIDTHS[mode], DIM)
    return model, method


def train_on_squares(
    make: Make, mode: str, epochs: int = 2, checkpoint: Checkpoint | None = None
) -> tuple[Embedder, list[dict[str, float]]]:
    images = squares(N_CLASSES)
    model, method = build(make, mode)
    source: BatchSource = ImageSource(images, images.labels, SIDE, "gentle")
    if mode == "head":
        pixels = partial(embed, images, "pixels", augmentation="gentle", cache=False)
        views = np.stack([pixels(view=view).vectors for view in range(2)])
        source = FeatureSource(torch.from_numpy(views), images.labels)
    settings = TrainSettings.model_validate({"epochs": epochs, "batch_size": 12, "lr": 1e-3})
    cpu = torch.device("cpu")
    with isolated(1):
        history = train(model, method, source, settings, seed=0, device=cpu, checkpoint=checkpoint)
    return model, history.rows


def training_modes(make: Make) -> list[str]:
    method = build(make, "finetune")[1]
    skip_unless(method.trains, "it does not train")
    return [mode for mode in WIDTHS if not method.modes.get(mode, "not listed")]


def _equal_weights(first: Embedder, second: Embedder) -> bool:
    one, other = first.trained.state_dict(), second.trained.state_dict()
    return all(torch.equal(one[key], other[key]) for key in one)


def check_interface(make: Make) -> None:
    """It is a BaseMethod that declares its training modes and takes one or two views."""
    method = build(make, "finetune")[1]
    remedy = "Derive it from oodml.methods._base.BaseMethod and call super().__init__(sizes)"
    require(isinstance(method, BaseMethod), f"it is a {type(method).__name__}", remedy)
    known = not set(method.modes) - set(WIDTHS) and not all(method.modes.values())
    remedy = f"Map each of {', '.join(WIDTHS)} to '' if it is supported, else to the reason"
    require(known, f"modes = {method.modes}", remedy)
    require(method.n_views in (1, 2), f"n_views = {method.n_views}", "Set n_views to 1 or 2")


def check_training(make: Make) -> None:
    """Two epochs on tiny data keep every loss term finite and change the model, in each mode."""
    for mode in training_modes(make):
        untrained = build(make, mode)[0]
        model, history = train_on_squares(make, mode)
        finite = all(np.isfinite(value) for row in history for value in row.values())
        require(finite, f"{mode}: {history}", "Guard divisions, roots, and logarithms")
        remedy = "Compute the terms from batch.outputs or batch.features, without detach()"
        require(not _equal_weights(untrained, model), f"{mode}: no weight has changed", remedy)


def check_reproducibility(make: Make) -> None:
    """Two trainings with one seed are equal bit for bit."""
    for mode in training_modes(make):
        (model, history), (again, same) = (train_on_squares(make, mode) for _ in range(2))
        equal = history == same and _equal_weights(model, again)
        remedy = "Draw only from batch.generator, and keep no state outside the method"
        require(equal, f"{mode}: two trainings differ", remedy)


def check_resume(make: Make) -> None:
    """A training resumed from a checkpoint equals an uninterrupted one."""
    for mode in training_modes(make):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder) / "half.pt", "check", every=0.0)
            train_on_squares(make, mode, 1, checkpoint)
            problem = f"{mode}: the checkpoint cannot be saved or loaded"
            require(checkpoint.find(), problem, STATE_REMEDY)
            model, history = train_on_squares(make, mode, 2, checkpoint)
        whole, expected = train_on_squares(make, mode, 2)
        equal = history == expected and _equal_weights(model, whole)
        require(equal, f"{mode}: it differs from an uninterrupted training", STATE_REMEDY)


def check_parameter_groups(make: Make) -> None:
    """Its optimizer groups and its own optimizers contain every parameter once."""
    model, method = build(make, training_modes(make)[0])
    method.prepare(model)
    groups = [*method.parameter_groups(1e-3)]
    for value in vars(method).values():
        groups += value.param_groups if isinstance(value, torch.optim.Optimizer) else ()
    grouped = [id(p) for group in groups for p in group["params"]]
    model_parameters = {id(p) for p in model.parameters()}
    trainable = {id(p) for p in method.parameters() if p.requires_grad}
    names = {id(p): name for name, p in method.named_parameters()}
    for wrong, problem in (
        (trainable - set(grouped) - model_parameters, "no optimizer trains"),
        ({p for p in grouped if grouped.count(p) > 1}, "two groups contain"),
        (set(grouped) & model_parameters, "the optimizer of the model already trains"),
    ):
        if wrong:
            parameters = ", ".join(names.get(p, "a parameter of the head") for p in wrong)
            remedy = "Return each parameter once from parameter_groups(lr)"
            own = "except those that an optimizer of the method trains"
            raise Violation(f"{problem} {parameters}", f"{remedy}, {own}")


def check_saved_model(make: Make) -> None:
    """A saved and loaded model computes the same embeddings."""
    training_modes(make)
    model, _ = build(make, "finetune")
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model.save(Path(folder))
        loaded: Tensor = load_model(folder, trust_code=True)(images)
        expected: Tensor = model.eval()(images)
    remedy = "Keep the head's arguments in an attribute `options`, its state in parameters"
    require(torch.allclose(loaded, expected, atol=1e-6), "the embeddings differ", remedy)


def check_head(make: Make) -> None:
    """Its head computes one embedding per row, independent of the other rows."""
    model, _ = build(make, "head")
    features = torch.randn(5, WIDTHS["head"], generator=torch.Generator().manual_seed(0))
    head: Any = model.head.eval()
    with torch.inference_mode():
        outputs, together, alone = head(features), head.embed(features), head.embed(features[:1])
    if "embedding" not in outputs or together.ndim != 2 or len(together) != 5:
        remedy = 'Let head() return a module with embed(), whose outputs include "embedding"'
        raise Violation(f"outputs {list(outputs)}, embedding {tuple(together.shape)}", remedy)
    remedy = "Use no batch statistics in evaluation mode"
    equal = torch.allclose(together[:1], alone, atol=1e-5)
    require(equal, "an embedding depends on the other rows", remedy)


BASIC = (check_interface, check_training)
