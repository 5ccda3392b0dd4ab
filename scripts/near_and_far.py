"""Pretrain a small network, and write the study of near and far with its weights and splits.

    python scripts/near_and_far.py FOLDER [--epochs 40]
    cd FOLDER && oodml study run near_and_far.toml --out results

The network is pretrained on half of the classes of five groups of emoji, a stand-in for a
foundation model. The study fine-tunes it on half of the animals. Near are the other animals, far
are the other classes of the pretraining groups. The shift of a split is the FID of class means of
the pretrained features.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import oodml
from oodml.backbones import load_backbone
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.images.fingerprint import fingerprint
from oodml.methods._base import Sizes
from oodml.methods.criterion import Method
from oodml.model import Embedder, LinearHead, parse_model_settings
from oodml.randomness import isolated
from oodml.training.loop import train
from oodml.training.settings import TrainSettings
from oodml.training.sources import ImageSource

GROUPS = ("objects", "travel", "symbols", "food", "activities")
TUNED = "animals"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_suffix(".toml"), options.folder)
    images = open_images("emoji")
    random = np.random.default_rng(0)
    halves = {group: halve(images.class_names, group, random) for group in (*GROUPS, TUNED)}
    learned = [name for group in GROUPS for name in halves[group][0]]
    weights = options.folder / "pretrained.safetensors"
    pretrain(images.subset(learned), weights, options.epochs)
    features = embed(images, "small", weights=str(weights), cache=False)
    tuned, near = halves[TUNED]
    far = [name for group in GROUPS for name in halves[group][1]]
    validation = tuple(tuned[::4])
    splits = [
        oodml.Split(step, tuple(tuned), tuple(test), shift(features, tuned, test), validation)
        for step, test in ((0, near), (1, far))
    ]
    progression = oodml.Progression(
        tuple(splits), "by group", data="emoji", fingerprint=fingerprint(images), backbone="small"
    )
    oodml.write_splits(progression, options.folder / "near_and_far.json")


def halve(names: list[str], group: str, random: np.random.Generator) -> list[list[str]]:
    """The classes of a group in two random halves."""
    own = random.permutation([name for name in names if name.startswith(f"{group}/")]).tolist()
    return [sorted(own[: len(own) // 2]), sorted(own[len(own) // 2 :])]


def pretrain(images: oodml.ImageSet, file: Path, epochs: int) -> None:
    """Train the small network on some classes, and save its weights."""
    with isolated(0):
        settings = parse_model_settings({"backbone": "small", "mode": "finetune", "dim": 128})
        network = load_backbone("small", "none")
        model = Embedder(settings, LinearHead(network.features, 128), network)
        method = Method(Sizes(len(images.class_names), 128, network.features), "multisimilarity")
        source = ImageSource(images, images.labels, 64, "gentle")
        table = {"epochs": epochs, "batch_size": 112, "per_class": 4, "lr": 2e-3}
        cpu = torch.device("cpu")
        train(model, method, source, TrainSettings.model_validate(table), seed=0, device=cpu,
              log=print)  # fmt: skip
    save_file({k: v.contiguous() for k, v in network.network.state_dict().items()}, file)


def shift(features: oodml.VectorSet, train_on: list[str], test: list[str]) -> float:
    """FID of the class means of two sets of classes."""
    means = [
        np.stack([features.vectors[features.classes == name].mean(0) for name in names])
        for names in (train_on, test)
    ]
    return float(oodml.frechet_distance(*means))


if __name__ == "__main__":
    main()
