import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from typer.testing import CliRunner

from oodml.cli import app
from oodml.decisions.leakage import (
    close_hashes,
    measure_leakage,
    near_duplicates,
    recall_without,
    similar_groups,
)
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.images.image_set import ImageSet
from oodml.shift.files import write_splits
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet
from tests.decisions.samples import clusters


def test_pairs_of_hashes_equal_a_naive_loop() -> None:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**63, 60, dtype=np.uint64)
    flipped = base.copy()
    for row in range(60):
        for bit in generator.choice(64, row % 12, replace=False):
            flipped[row] ^= np.uint64(1) << np.uint64(bit)
    hashes = np.concatenate([base, flipped, base[:5]])
    pairs = {tuple(sorted(pair)) for part in close_hashes(hashes) for pair in part.tolist()}
    first = {value: row for row, value in reversed([*enumerate(hashes.tolist())])}
    expected = set()
    for i, a in enumerate(hashes.tolist()):
        for j, b in enumerate(hashes.tolist()):
            if i < j and bin(a ^ b).count("1") <= 7:
                expected.add(tuple(sorted((first[a], first[b] if a != b else j))))
    assert pairs == expected


def _smooth(n: int, seed: int) -> list[Image.Image]:
    """Images of random low frequencies, no two of which are alike."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (n, 6, 6, 3)).astype(np.uint8)
    return [Image.fromarray(one).resize((96, 96), Image.Resampling.BICUBIC) for one in noise]


def _altered(image: Image.Image, kind: int) -> Image.Image:
    if kind == 0:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=40)
        return Image.open(stream).convert("RGB").resize((96, 96))
    if kind == 1:
        return image.resize((48, 48)).resize((96, 96))
    return ImageEnhance.Brightness(image).enhance(0.8)


def _images(pictures: list[Image.Image], classes: list[str]) -> ImageSet:
    ids = np.array([f"{name}/{row:03d}.png" for row, name in enumerate(classes)])
    pixels = np.stack([np.asarray(one) for one in pictures])
    return ImageSet("planted", ids, np.array(classes), pixels=pixels)


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    pictures = _smooth(300, 0)
    assert (near_duplicates(_images(pictures, ["a", "b", "c"] * 100)) == -1).all()
    planted = [*pictures, *(_altered(pictures[i], i % 3) for i in range(30))]
    groups = near_duplicates(_images(planted, ["a"] * 330))
    outcome = [groups[i] >= 0 and groups[i] == groups[300 + i] for i in range(30)]
    assert np.mean(outcome) >= 0.9
    assert (groups[30:300] == -1).all()


def test_similar_groups_equal_a_naive_loop() -> None:
    rows = clusters().vectors
    rows = np.concatenate([rows, rows[:4] * 3 + 1e-4])
    groups = similar_groups(rows, 0.999)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for i in range(len(rows)):
        near = {j for j in range(len(rows)) if unit[i] @ unit[j] >= 0.999} - {i}
        assert (groups[i] >= 0) == bool(near)
        assert all(groups[j] == groups[i] for j in near)


def test_leaks_by_split_and_recall_without() -> None:
    images = _images(_smooth(12, 1), ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"] * 3)
    groups = np.full(12, -1)
    groups[[0, 6]] = 0  # a and c: leaks from training
    groups[[7, 8]] = 1  # within c
    groups[[9, 10]] = 2
    split = Split(0, ("a", "b"), ("c", "d"), 1.0)
    vectors = VectorSet(
        np.random.default_rng(0).normal(size=(6, 3)), images.classes[6:], images.ids[6:]
    )
    result = measure_leakage(images, groups, [split], [("0", "net", vectors)])
    assert result.across == ((images.ids[0], images.ids[6]),)
    assert len(result.within) == 2
    assert result.splits == ({"split": "0", "leaked": 1, "test": 6},)
    stays = [1, 3, 5]  # not row 6 (leaked), 8, and 10 (repeats)
    expected = retrieval_metrics(vectors.vectors[stays], vectors.classes[stays], ks=(1,))
    assert result.recalls[0]["without"] == expected["recall@1"]


def test_recall_falls_without_planted_near_duplicates() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 8))
    doubled = np.concatenate([rows, rows + 1e-3])
    vectors = VectorSet(doubled, np.tile(np.repeat([f"c{i}" for i in range(20)], 10), 2))
    groups = similar_groups(vectors.vectors, 0.999)
    full, without = recall_without(vectors, groups, np.zeros(400, bool))
    assert full == 1.0
    assert without < 0.2


def test_command(tmp_path: Path) -> None:
    pictures = _smooth(8, 2)
    names = "aabbccdd"
    for row, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "data" / name / f"{row}.png")
    _altered(pictures[0], 2).save(tmp_path / "data/d/copy.png")
    split = Split(0, ("a", "b"), ("c", "d"), 1.0)
    write_splits(Progression((split,), "mine", data="data"), tmp_path / "splits.json")
    options = ["--near-duplicates", "--splits", str(tmp_path / "splits.json"), "--json"]
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "data"), *options])
    outcome = json.loads(result.stdout)["near_duplicates"]
    assert outcome["across"] == [["a/0.png", "d/copy.png"]]
    assert outcome["within"] == []
    assert outcome["splits"] == [{"split": "0", "leaked": 1, "test": 5}]
    implied = ["data", "check", str(tmp_path / "data"), "--similarity", "0.9", "--json"]
    assert json.loads(CliRunner().invoke(app, implied).stdout)["near_duplicates"]["across"]
