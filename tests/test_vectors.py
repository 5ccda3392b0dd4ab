from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from oodml.errors import OodmlError
from oodml.vector_files import SUFFIXES
from oodml.vectors import VectorSet


def sample(superclasses: bool = True) -> VectorSet:
    random = np.random.default_rng(0)
    return VectorSet(
        random.normal(size=(6, 4)).astype(np.float32),
        np.array(["b", "a", "ü b", "a", "b", "007"]),
        np.array([f"x/{i}.png" for i in range(6)]),
        np.array(list("ppqqpp")) if superclasses else None,
        {"backbone": "lite0", "image_size": 96},
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("superclasses", [True, False])
def test_load_returns_what_save_wrote(tmp_path: Path, suffix: str, superclasses: bool) -> None:
    vectors = sample(superclasses)
    path = tmp_path / f"v{suffix}"
    vectors.save(path)
    loaded = VectorSet.load(path)
    np.testing.assert_array_equal(loaded.vectors, vectors.vectors)
    assert loaded.classes.tolist() == vectors.classes.tolist()
    assert loaded.ids.tolist() == vectors.ids.tolist()
    assert (loaded.superclasses is None) == (not superclasses)
    if superclasses and vectors.superclasses is not None and loaded.superclasses is not None:
        assert loaded.superclasses.tolist() == vectors.superclasses.tolist()
    assert dict(loaded.source) == ({} if suffix == ".npy" else dict(vectors.source))


def test_a_table_with_one_column_per_dimension(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pd.DataFrame({"labels": ["a", "b"], "e0": [1.0, 2.0], "e1": [3.0, 4.0]}).to_parquet(path)
    np.testing.assert_array_equal(VectorSet.load(path).vectors, [[1, 3], [2, 4]])


def test_other_metadata_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    tensors = {"vectors": np.eye(2, dtype=np.float32), "labels": np.array([3, 4])}
    save_file(tensors, path, metadata={"format": "pt"})
    assert VectorSet.load(path).classes.tolist() == ["3", "4"]


def test_labels_do_not_overwrite_a_table_of_images(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("path,class\na.png,a\n")
    with pytest.raises(OodmlError, match="v.csv"):
        sample().save(tmp_path / "v.npy")
    assert (tmp_path / "v.csv").read_text().startswith("path,class")
    sample().save(tmp_path / "w.npy")
    sample().save(tmp_path / "w.npy")


def test_class_means_equal_a_loop() -> None:
    vectors = sample()
    for name, mean in zip(vectors.class_names, vectors.class_means(), strict=True):
        expected = vectors.vectors[vectors.classes == name].astype(float).mean(axis=0)
        np.testing.assert_allclose(mean, expected, atol=1e-12)


def test_bad_rows_are_named() -> None:
    bad = sample().vectors.copy()
    bad[3, 1] = np.nan
    with pytest.raises(OodmlError, match="row 3"):
        VectorSet(bad, sample().classes, sample().ids)
    with pytest.raises(OodmlError, match="classes"):
        VectorSet(sample().vectors, sample().classes[:5], sample().ids)


def test_unknown_files_and_suffixes(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match=".pkl"):
        sample().save(tmp_path / "v.pkl")
    with pytest.raises(OodmlError, match="v.npz"):
        VectorSet.load(tmp_path / "v.npz")
    np.savez(tmp_path / "w.npz", vectors=np.zeros((2, 2)))
    with pytest.raises(OodmlError, match="w.npz"):
        VectorSet.load(tmp_path / "w.npz")
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    with pytest.raises(OodmlError, match="x.csv"):
        VectorSet.load(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@given(data=st.data())
def test_a_truncated_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("truncated")
    sample().save(folder / f"v{suffix}")
    content = (folder / f"v{suffix}").read_bytes()
    length = data.draw(st.integers(0, len(content) - 1))
    truncated = folder / f"truncated{suffix}"
    truncated.write_bytes(content[:length])
    with pytest.raises(OodmlError, match="truncated"):
        VectorSet.load(truncated)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.zeros((1, 2)), classes=np.array([{}], dtype=object))
    with pytest.raises(OodmlError, match="v.npz"):
        VectorSet.load(tmp_path / "v.npz")
