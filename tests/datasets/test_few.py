"""Reduced datasets and miniatures."""

from pathlib import Path

import numpy as np
import pytest

from oodml.datasets import open_images
from oodml.datasets._few import MINIATURES, write_miniature
from oodml.errors import OodmlError


def test_few_images_come_from_every_superclass() -> None:
    images = open_images("glyphs", few=(20, 3))
    assert len(images) == 60
    assert len(images.class_names) == 20
    assert len(set(images.superclass_of.values())) == 10
    whole = open_images("glyphs")
    same = whole.select(np.random.default_rng(0).permutation(len(whole)))
    from oodml.datasets._few import reduce_images

    assert set(reduce_images(same, 20, 3).ids) == set(images.ids)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_miniature_has_the_layout_of_the_data_set(name: str, tmp_path: Path) -> None:
    images = open_images(name, root=write_miniature(name, tmp_path, 8, 3))
    assert len(images) == 24
    assert len(images.class_names) == 8
    assert images.read(0).size == (48, 48)
    if name == "online_products":
        assert set(images.superclass_of.values()) == {f"kind{k}" for k in range(4)}
        assert images.partition is not None
        assert (images.partition == "train").sum() == 12
        few = open_images(name, root=tmp_path, few=(4, 1))
        assert few.partition is not None
        assert set(few.partition) == {"train", "test"}


def test_other_miniatures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="glyphs"):
        write_miniature("glyphs", tmp_path)
