"""Files of vectors as they are on other people's disks: read right, or refused with location."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.evaluation import evaluate_vectors
from oodml.vectors import VectorSet

N = 12
LABELS = np.arange(N) % 4
NAMES = [f"c{label}" for label in LABELS]
VECTORS = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
UNLABELED = (1, 7)


def without(values: Any, missing: Any) -> list[Any]:
    return [missing if row in UNLABELED else value for row, value in enumerate(values)]


def write_csv(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def npy(folder: Path, header: str, rows: list[str]) -> Path:
    np.save(folder / "v.npy", VECTORS)
    write_csv(folder / "v.csv", header, rows)
    return folder / "v.npy"


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "v.npz", **{"vectors": VECTORS, **arrays})
    return folder / "v.npz"


def parquet(folder: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({"vectors": VECTORS.tolist(), **columns}), folder / "v.parquet")
    return folder / "v.parquet"


def safetensors(folder: Path, metadata: dict[str, str] | None = None, **tensors: Any) -> Path:
    save_file({"vectors": VECTORS, **tensors}, folder / "v.safetensors", metadata=metadata)
    return folder / "v.safetensors"


NUMBERS = np.array(without(LABELS.astype(float), np.nan))
INTEGERS = without(LABELS.tolist(), None)
MISSING: dict[str, Callable[[Path], Path]] = {
    "npz NaN": lambda f: npz(f, classes=NUMBERS),
    "npz empty": lambda f: npz(f, classes=np.array(without(NAMES, ""))),
    "npz blank": lambda f: npz(f, labels=np.array(without(NAMES, "  "))),
    "npz 'nan'": lambda f: npz(f, labels=np.array(without(NAMES, np.nan))),
    "npz 'None'": lambda f: npz(f, labels=np.array(without(NAMES, "None"))),
    "npz superclasses": lambda f: npz(f, classes=LABELS, superclasses=NUMBERS % 2),
    "parquet text": lambda f: parquet(f, classes=without(NAMES, None)),
    "parquet integers": lambda f: parquet(f, label=pa.array(INTEGERS, pa.int32())),
    "parquet NaN": lambda f: parquet(f, label=NUMBERS),
    "parquet categories": lambda f: parquet(
        f, classes=pa.array(without(NAMES, None)).dictionary_encode()
    ),
    "npy": lambda f: npy(f, "class,id", [f"{n},{i}" for i, n in enumerate(without(NAMES, ""))]),
    "npy 'None'": lambda f: npy(f, "class", without(NAMES, "None")),
    "npy one column": lambda f: npy(f, "class", without(NAMES, "")),
    "safetensors text": lambda f: safetensors(f, {"classes": json.dumps(without(NAMES, None))}),
    "safetensors NaN": lambda f: safetensors(f, labels=NUMBERS),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_is_never_a_class(tmp_path: Path, kind: str) -> None:
    path = MISSING[kind](tmp_path)
    with pytest.raises(OodmlError) as caught:
        VectorSet.load(path)
    assert caught.value.given == UNLABELED[0]
    assert caught.value.location in (str(path), str(path.with_suffix(".csv")))
    labeled = np.setdiff1d(np.arange(N), UNLABELED)
    loaded = VectorSet.load(path, skip_unlabeled=True)
    np.testing.assert_array_equal(loaded.vectors, VECTORS[labeled])
    assert np.unique(loaded.classes, return_inverse=True)[1].tolist() == LABELS[labeled].tolist()
    assert loaded.source["skipped_unlabeled"] == len(UNLABELED)


@pytest.mark.parametrize(
    "labels",
    [
        without(NAMES, None),
        without(NAMES, ""),
        without(LABELS.tolist(), float("nan")),
        np.array(without(NAMES, None), dtype=object),
        NUMBERS,
        pd.Series(without(LABELS.tolist(), None), dtype="Int64"),
        pd.Categorical(without(NAMES, None)),
        torch.tensor(NUMBERS),
    ],
)
def test_a_missing_label_in_python(labels: Any) -> None:
    for use in (
        lambda: VectorSet(VECTORS, np.asarray(labels, dtype=object)),
        lambda: oodml.retrieval_metrics(VECTORS, labels),
        lambda: oodml.clustering_metrics(VECTORS, labels),
        lambda: oodml.structure_metrics(VECTORS, labels),
    ):
        with pytest.raises(OodmlError) as caught:
            use()
        assert caught.value.given == UNLABELED[0]


def test_a_masked_label_in_python() -> None:
    labels = np.ma.masked_array(LABELS, [row in UNLABELED for row in range(N)])
    with pytest.raises(OodmlError) as caught:
        oodml.retrieval_metrics(VECTORS, labels)
    assert caught.value.given == UNLABELED[0]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet", ".npy"])
def test_a_class_may_be_called_nan(tmp_path: Path, suffix: str) -> None:
    names = np.array(["nan", "None", "007", "7", "a,b", 'q"', "ü"] + ["x"] * 5)
    VectorSet(VECTORS, names).save(tmp_path / f"v{suffix}")
    assert VectorSet.load(tmp_path / f"v{suffix}").classes.tolist() == names.tolist()


def test_labels_that_became_text_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match="nan"):
        oodml.retrieval_metrics(VECTORS, np.array(without(NAMES, np.nan)))


LISTS = list(VECTORS)
WIDE = {f"d{i}": VECTORS[:, i] for i in range(3)}
RIGHT: dict[str, dict[str, Any]] = {
    "other numbers": {**WIDE, "lat": LABELS * 9.5, "lon": -LABELS, "confidence": LABELS / 7},
    "a score beside a list": {"embedding": LISTS, "score": LABELS / 7, "index": np.arange(N)},
    "other lists": {"bbox": [[1.0, 2, 3, 4]] * N, "features": LISTS, "tokens": [[1, 2]] * N},
    "order": dict(reversed(WIDE.items())),
    "from 1": {f"dim_{i + 1}": VECTORS[:, i] for i in range(3)},
    "plain numbers": {str(i): VECTORS[:, i] for i in range(3)},
    "case": {"Vectors": LISTS, "x": LABELS / 7},
}
REFUSED: dict[str, dict[str, Any]] = {
    "no vectors": {"score": LABELS / 7, "lat": LABELS * 1.5},
    "two lists": {"a": LISTS, "b": LISTS},
    "two names": {"embedding": LISTS, "vectors": LISTS},
    "coordinates": {"x1": LABELS / 2, "x2": LABELS / 3, "y1": LABELS / 5, "y2": LABELS / 7},
    "box only": {"bbox": [[1.0, 2, 3, 4]] * N},
    "scores only": {f"score_{i}": VECTORS[:, i] for i in range(3)},
    "two groups": {**WIDE, "e0": LABELS / 2, "e1": LABELS / 3},
    "a missing dimension": {"d0": VECTORS[:, 0], "d2": VECTORS[:, 2]},
    "text as vectors": {"embedding": ["a"] * N},
    "lists of text": {"embedding": [["a", "b"]] * N},
    "unequal lists": {"embedding": [*LISTS[:5], LISTS[5][:2], *LISTS[6:]]},
    "a missing list": {"embedding": [*LISTS[:5], None, *LISTS[6:]]},
    "a missing number": {"embedding": [*LISTS[:5], [1.0, None, 2.0], *LISTS[6:]]},
    "bytes": {"embedding": [row.tobytes() for row in VECTORS]},
}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("kind", RIGHT)
def test_the_embedding_is_found_by_a_rule(tmp_path: Path, kind: str, suffix: str) -> None:
    path = write_table(tmp_path / f"t{suffix}", {**RIGHT[kind], "label": NAMES})
    loaded = VectorSet.load(path)
    np.testing.assert_allclose(loaded.vectors, VECTORS, rtol=1e-6)
    assert loaded.classes.tolist() == NAMES


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("kind", REFUSED)
def test_other_columns_are_never_the_embedding(tmp_path: Path, kind: str, suffix: str) -> None:
    path = write_table(tmp_path / f"t{suffix}", {**REFUSED[kind], "label": NAMES})
    with pytest.raises(OodmlError) as caught:
        VectorSet.load(path)
    assert caught.value.location == str(path)
    assert "Traceback" not in str(caught.value)


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame({name: list(values) for name, values in columns.items()}).to_parquet(path)
        return path
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([cell.tolist() if hasattr(cell, "tolist") else cell for cell in row])
    return path


def test_columns_can_be_named(tmp_path: Path) -> None:
    columns = {"a": LISTS, "b": [row + 1 for row in LISTS], "pc1": LABELS, "pc2": -LABELS}
    path = write_table(tmp_path / "t.parquet", {**columns, "kind": NAMES, "label": LABELS})
    np.testing.assert_allclose(VectorSet.load(path, vectors="b").vectors, VECTORS + 1)
    loaded = VectorSet.load(path, vectors="pc*", labels="kind")
    np.testing.assert_array_equal(loaded.vectors, np.stack([LABELS, -LABELS], axis=1))
    assert loaded.classes.tolist() == NAMES
    for options in ({"vectors": "c"}, {"vectors": "a", "labels": "c"}):
        with pytest.raises(OodmlError) as caught:
            VectorSet.load(path, **options)
        assert caught.value.given == "c"


@pytest.mark.parametrize("label", ["classes", "class", "labels", "label", "Label"])
@pytest.mark.parametrize("ids", ["ids", "id", "ID"])
@pytest.mark.parametrize("write", [npz, parquet, npy])
def test_names_mean_the_same_in_every_format(
    tmp_path: Path, write: Callable[..., Path], label: str, ids: str
) -> None:
    images = [f"{i}.png" for i in range(N)]
    if write is npy:
        path = npy(tmp_path, f"{ids},{label}", [f"{i},{n}" for i, n in zip(images, NAMES)])  # noqa: B905
    else:
        path = write(tmp_path, **{ids: images, label: NAMES})
    loaded = VectorSet.load(path)
    assert (loaded.classes.tolist(), loaded.ids.tolist()) == (NAMES, images)


def test_two_columns_of_labels(tmp_path: Path) -> None:
    agreeing = VectorSet.load(npz(tmp_path, classes=NAMES, labels=LABELS))
    assert agreeing.classes.tolist() == NAMES
    with pytest.raises(OodmlError) as caught:
        VectorSet.load(npz(tmp_path, classes=NAMES, labels=LABELS // 2))
    assert set(caught.value.given) == {"classes", "labels"}  # type: ignore[call-overload]


def test_whole_floats_and_integers_are_the_same_names(tmp_path: Path) -> None:
    assert VectorSet.load(npz(tmp_path, labels=LABELS.astype(float))).classes[1] == "1"
    assert VectorSet.load(npz(tmp_path, labels=LABELS[:, None])).classes[1] == "1"
    with pytest.raises(OodmlError) as caught:
        VectorSet.load(npz(tmp_path, labels=LABELS + 0.5))
    assert caught.value.given == 0


BAD_ROWS = {
    "trailing comma": ("class,superclass", lambda c: f"{c},s,"),
    "trailing comma with ids": ("id,class", lambda c: f"1,{c},"),
    "comma in a name": ("id,class,superclass", lambda c: f"1,{c}, big,s"),
    "too few": ("id,class,superclass", lambda c: f"1,{c}"),
    "semicolons": ("id;class", lambda c: f"1;{c}"),
    "open quote": ("class", lambda c: f'"{c}'),
    "two columns": ("class,class", lambda c: f"{c},{c}"),
    "no labels": ("name,file", lambda c: f"{c},f"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_rows_that_do_not_fit_the_header_are_refused(tmp_path: Path, kind: str) -> None:
    header, row = BAD_ROWS[kind]
    path = npy(tmp_path, header, [row(name) for name in NAMES])
    with pytest.raises(OodmlError) as caught:
        VectorSet.load(path)
    assert caught.value.location == str(path.with_suffix(".csv"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_name_the_csv(tmp_path: Path, encoding: str) -> None:
    path = npy(tmp_path, "class", NAMES)
    text = "class\n" + "".join(f"é{name}\n" for name in NAMES)
    path.with_suffix(".csv").write_bytes(text.encode(encoding))
    with pytest.raises(OodmlError, match="UTF-8") as caught:
        VectorSet.load(path)
    assert caught.value.location == str(path.with_suffix(".csv"))


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = npy(tmp_path, "\ufeffclass", NAMES)
    assert VectorSet.load(path).classes.tolist() == NAMES


@pytest.mark.parametrize("n_labels", [N - 1, N + 1])
def test_other_numbers_of_labels_are_refused(tmp_path: Path, n_labels: int) -> None:
    names = (NAMES * 2)[:n_labels]
    for path in (npz(tmp_path, classes=names), npy(tmp_path, "class", names)):
        with pytest.raises(OodmlError, match=str(n_labels)):
            VectorSet.load(path)


def test_own_arrays_and_metadata_called_source(tmp_path: Path) -> None:
    table = pa.table({"vectors": VECTORS.tolist(), "classes": NAMES})
    pq.write_table(table.replace_schema_metadata({"source": "camera 3"}), tmp_path / "s.parquet")
    for path in (
        npz(tmp_path, classes=NAMES, source=np.array(["camera 1"] * N)),
        tmp_path / "s.parquet",
        safetensors(tmp_path, {"source": "model v2", "classes": json.dumps(NAMES)}),
    ):
        assert VectorSet.load(path).classes.tolist() == NAMES
    assert VectorSet.load(npz(tmp_path, classes=NAMES, source=np.array("run 4"))).source == {
        "ids": "row numbers"
    }


def test_errors_list_the_columns_of_the_file(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.parquet", {"photo": NAMES, "score": LABELS / 7})
    with pytest.raises(OodmlError, match=r"'photo'.*'score'"):
        VectorSet.load(path)
    with pytest.raises(OodmlError, match="'Kind'"):
        VectorSet.load(npy(tmp_path, "Kind", NAMES))


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    for arrays in (
        {"classes": np.array([{}] * N, dtype=object)},
        {"vectors": np.array([{}] * N, dtype=object), "classes": NAMES},
    ):
        with pytest.raises(OodmlError, match="astype"):
            VectorSet.load(npz(tmp_path, **arrays))
    unused = npz(tmp_path, classes=NAMES, notes=np.array([{}], dtype=object))
    assert VectorSet.load(unused).classes.tolist() == NAMES


def test_the_suffix_must_fit_the_contents(tmp_path: Path) -> None:
    content = parquet(tmp_path, classes=NAMES).read_bytes()
    for suffix in (".npz", ".npy", ".csv", ".safetensors"):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(content)
        with pytest.raises(OodmlError) as caught:
            VectorSet.load(path)
        assert caught.value.allowed == (".parquet",)
    with pytest.raises(OodmlError, match=r"v\.parquet"):
        VectorSet.load(tmp_path / "v.parqet.parquet")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet", ".npy"])
def test_float64_is_kept(tmp_path: Path, suffix: str) -> None:
    exact = VECTORS.astype(np.float64) + 1e8 + 1e-6
    VectorSet(exact, np.array(NAMES)).save(tmp_path / f"v{suffix}")
    loaded = VectorSet.load(tmp_path / f"v{suffix}")
    assert loaded.vectors.dtype == np.float64
    np.testing.assert_array_equal(loaded.vectors, exact)


MAKES: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda x: x.tolist(),
    "list of arrays": list,
    "objects": lambda x: x.astype(object),
    "data frame": pd.DataFrame,
    "big endian": lambda x: x.astype(">f8"),
    "negative strides": lambda x: x[::-1][::-1],
    "fortran": np.asfortranarray,
    "long double": lambda x: x.astype(np.longdouble),
    "tensor": torch.from_numpy,
    "gradient": lambda x: torch.from_numpy(x).requires_grad_(),
    "masked array": np.ma.masked_array,
}


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("make", [*MAKES.values(), read_only], ids=[*MAKES, "read-only"])
def test_arrays_of_any_make(make: Callable[[np.ndarray], Any]) -> None:
    exact = VECTORS.astype(np.float64)
    given_vectors = make(exact)
    expected = oodml.retrieval_metrics(exact, LABELS)
    assert oodml.retrieval_metrics(given_vectors, LABELS) == pytest.approx(expected, abs=1e-9)
    if isinstance(given_vectors, np.ndarray):
        np.testing.assert_array_equal(VectorSet(given_vectors, np.array(NAMES)).vectors, exact)


def test_integers_and_small_types(tmp_path: Path) -> None:
    large = np.array([[2**40 + i, i % 3] for i in range(N)])
    loaded = VectorSet(large, np.array(NAMES)).vectors
    assert loaded.dtype == np.float64
    np.testing.assert_array_equal(loaded, large)
    tensors = {"vectors": torch.from_numpy(VECTORS).bfloat16(), "labels": torch.tensor(LABELS)}
    save_tensors(tensors, tmp_path / "b.safetensors")
    assert VectorSet.load(tmp_path / "b.safetensors").vectors.dtype == np.float32
    sparse = oodml.retrieval_metrics(torch.eye(N).to_sparse(), LABELS, seed=1)
    assert sparse == oodml.retrieval_metrics(np.eye(N), LABELS, seed=1)
    for bad in (VECTORS * 1j, np.array([["a"]] * N), [[1.0], [1.0, 2.0]], VECTORS[None]):
        with pytest.raises(OodmlError):
            oodml.retrieval_metrics(bad, LABELS)


def check_location(error: OodmlError, path: Path) -> None:
    assert error.location in (str(path), str(path.with_suffix(".csv")))


CELLS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=6)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(CELLS, min_size=2, max_size=5),
    kind=st.sampled_from([".npz", ".parquet", ".npy", ".csv", ".safetensors"]),
)
def test_any_text_is_read_as_written_or_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    vectors = np.arange(2.0 * len(names)).reshape(-1, 2)
    path = folder / f"v{kind}"
    if kind == ".npz":
        np.savez(path, vectors=vectors, classes=np.array(names))
        names = np.array(names).tolist()  # numpy drops trailing NUL characters itself
    elif kind == ".safetensors":
        save_file({"vectors": vectors}, path, metadata={"classes": json.dumps(names)})
    elif kind == ".parquet":
        pq.write_table(pa.table({"vectors": vectors.tolist(), "classes": names}), path)
    else:
        columns = {"class": names} | ({"vectors": list(vectors)} if kind == ".csv" else {})
        write_table(path.with_suffix(".csv"), columns)
        if kind == ".npy":
            np.save(path, vectors)
    try:
        loaded = VectorSet.load(path)
    except OodmlError as error:
        check_location(error, path)
        blank = any(not name.strip() or "\0" in name for name in names)
        assert (
            blank
            or any(name in ("nan", "NaN", "None", "null") for name in names)
            or ("\r" in "".join(names))
        )
    else:
        assert loaded.classes.tolist() == names
        np.testing.assert_array_equal(loaded.vectors, vectors)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), kind=st.sampled_from([".npz", ".parquet", ".npy", ".csv", ".safetensors"]))
def test_damaged_bytes_never_end_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / f"v{kind}"
    if kind == ".csv":
        write_table(path, {"class": NAMES, "vectors": LISTS})
    else:
        VectorSet(VECTORS, np.array(NAMES)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        assert len(VectorSet.load(path).vectors.shape) == 2
    except OodmlError as error:
        check_location(error, path)


def test_classes_that_differ_in_surrounding_space_are_refused(tmp_path: Path) -> None:
    labels = np.array(["a", "a ", "b", "b"])
    np.savez(tmp_path / "v.npz", vectors=np.eye(4), classes=labels)
    with pytest.raises(OodmlError) as raised:
        VectorSet.load(tmp_path / "v.npz")
    assert raised.value.given == "a "


def test_ids_that_equal_row_numbers_are_ids(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    labels = np.repeat(["a", "b", "c"], 4)
    np.savez(tmp_path / "v.npz", vectors=vectors, classes=labels, ids=np.arange(12))
    np.savez(tmp_path / "none.npz", vectors=vectors, classes=labels)
    read = VectorSet.load(tmp_path / "v.npz")
    assert read.has_ids
    assert not VectorSet.load(tmp_path / "none.npz").has_ids
    result = evaluate_vectors(read, read, retrieval_only=True).metrics["recall@1"]
    assert result == oodml.retrieval_metrics(vectors, labels)["recall@1"]


@pytest.mark.parametrize("bad", [None, [1.0, None], [1.0]])
def test_messages_of_lists_show_plain_values(tmp_path: Path, bad: list[float] | None) -> None:
    table = pa.table({"vectors": [bad, [1.0, 2.0], [3.0, 4.0]], "label": ["a", "a", "b"]})
    pq.write_table(table, tmp_path / "v.parquet")
    with pytest.raises(OodmlError) as raised:
        VectorSet.load(tmp_path / "v.parquet")
    assert " -1" not in str(raised.value)
    assert "v.parquet" in str(raised.value.location)
