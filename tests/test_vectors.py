from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from oodml.errors import OodmlError
from oodml.vectors import SUFFIXES, VectorSet


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
def test_what_is_written_is_read(tmp_path: Path, suffix: str, superclasses: bool) -> None:
    vectors = sample(superclasses)
    path = tmp_path / f"v{suffix}"
    vectors.save(path)
    again = VectorSet.load(path)
    np.testing.assert_array_equal(again.vectors, vectors.vectors)
    assert again.classes.tolist() == vectors.classes.tolist()
    assert again.ids.tolist() == vectors.ids.tolist()
    assert (again.superclasses is None) == (not superclasses)
    if superclasses and vectors.superclasses is not None and again.superclasses is not None:
        assert again.superclasses.tolist() == vectors.superclasses.tolist()
    assert dict(again.source) == ({} if suffix == ".npy" else dict(vectors.source))


def test_a_table_with_one_column_a_dimension(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pd.DataFrame({"labels": ["a", "b"], "e0": [1.0, 2.0], "e1": [3.0, 4.0]}).to_parquet(path)
    np.testing.assert_array_equal(VectorSet.load(path).vectors, [[1, 3], [2, 4]])


def test_other_metadata_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    tensors = {"vectors": np.eye(2, dtype=np.float32), "labels": np.array([3, 4])}
    save_file(tensors, path, metadata={"format": "pt"})
    assert VectorSet.load(path).classes.tolist() == ["3", "4"]


def test_a_table_of_images_is_not_replaced_by_labels(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("path,class\na.png,a\n")
    with pytest.raises(OodmlError, match=r"would replace v.csv, which is no file of its labels"):
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
    with pytest.raises(OodmlError, match=r"row 3 \(id 'x/3.png'\) is not finite"):
        VectorSet(bad, sample().classes, sample().ids)
    with pytest.raises(OodmlError, match="5 classes for 6 vectors"):
        VectorSet(sample().vectors, sample().classes[:5], sample().ids)


def test_unknown_files_and_suffixes(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match=r"suffix '.pkl'; allowed: .npz"):
        sample().save(tmp_path / "v.pkl")
    with pytest.raises(OodmlError, match="no such file"):
        VectorSet.load(tmp_path / "v.npz")
    np.savez(tmp_path / "w.npz", vectors=np.zeros((2, 2)))
    with pytest.raises(OodmlError, match="needs `vectors` and `classes`"):
        VectorSet.load(tmp_path / "w.npz")
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    with pytest.raises(OodmlError, match=r"needs x.csv beside it"):
        VectorSet.load(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@given(data=st.data())
def test_a_torn_file_is_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    sample().save(folder / f"v{suffix}")
    whole = (folder / f"v{suffix}").read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    torn = folder / f"torn{suffix}"
    torn.write_bytes(whole[:length])
    with pytest.raises(OodmlError, match="torn"):
        VectorSet.load(torn)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.zeros((1, 2)), classes=np.array([{}], dtype=object))
    with pytest.raises(OodmlError, match="cannot be read"):
        VectorSet.load(tmp_path / "v.npz")
