import json
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oodml import Episode, OodmlError, Progression, Split, read_splits, write_splits
from oodml.shift import files
from oodml.shift.files import from_text, json_schema, to_text
from oodml.shift.published_format import from_published, load_plain, to_published

SHARED = settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def example() -> Progression:
    episodes = {2: (Episode({"ü": ("u1", "u2"), "d": ("d1", "d2")}), Episode({"d": ("d3", "d1")}))}
    class_wise = {2: (Episode({"e": ("e1",), "d": ("d1",)}, class_wise=True),)}
    return Progression(
        (
            Split(-2, ("a", "b", "c"), ("d", "e", "ü"), 0.1 + 0.2, ("b",), episodes),
            Split("R4", ("a", "c"), ("d", "e", "f"), 17.0, ("c",), class_wise),
        ),
        "exact",
        settings={"harder": 3, "share": 0.5, "note": "x", "even": True},
        data="made up",
        fingerprint="00ff",
        backbone="lite0",
        seed=3,
    )


def numpy_pickle(protocol: int = 3) -> bytes:
    """A small file as the original code writes them: names and numbers are numpy scalars."""
    layout = to_published(replace(example(), splits=example().splits[:1]))
    layout[1]["train"] = [np.str_(name) for name in layout[1]["train"]]
    layout[1]["fid"] = np.float64(layout[1]["fid"])
    return pickle.dumps(layout, protocol=protocol)


def outcome(read: Callable[[], Progression]) -> Progression | str:
    """The progression, or the message of the only error that is allowed."""
    try:
        return read()
    except OodmlError as error:
        return str(error)


def test_json_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    write_splits(example(), path)
    assert read_splits(path) == example()
    assert sum('"a",' in line or '"b",' in line for line in path.read_text().splitlines()) == 3


def test_the_shipped_schema_is_current() -> None:
    shipped = Path(files.__file__).with_name("splits.schema.json")
    assert json.loads(shipped.read_text()) == json_schema()


@SHARED
@given(st.data())
def test_any_changed_byte_of_json_is_an_error_or_changes_nothing(data: st.DataObject) -> None:
    raw = bytearray(to_text(example()).encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    result = outcome(lambda: from_text(files._decode(bytes(raw))))
    assert result == example() if isinstance(result, Progression) else len(result) > 10


@SHARED
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_other_json_is_refused_with_the_file_name(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "splits.json"
    head = json.loads(to_text(example())) | {"hash": ""}
    for value in (document, head | {"splits": document}, head | {"settings": document}):
        path.write_text(json.dumps(value), encoding="utf-8")
        result = outcome(lambda: read_splits(path))
        if isinstance(result, Progression):
            assert result.splits == example().splits
        else:
            assert str(path) in result


@pytest.mark.parametrize(
    ("old", "new", "location"),
    [
        ('"shift": 17.0', '"shift": 18.0', "hash"),
        ('"version": 1', '"version": 2', "version"),
        ('"data": "made up"', '"data": NaN', ""),
        ('"seed": 3', '"seed": 3, "seed": 3', "seed"),
        ('"format": "oodml.splits"', '"format": "x"', "format"),
        ("{", "[", ""),
    ],
)
def test_damaged_json_is_located(tmp_path: Path, old: str, new: str, location: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(to_text(example()).replace(old, new, 1), encoding="utf-8")
    with pytest.raises(OodmlError, match=str(path)) as error:
        read_splits(path)
    assert error.value.location == (f"{path}: {location}" if location else str(path))


def test_a_file_edited_by_hand_is_read_with_its_hash_emptied(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    document = json.loads(to_text(example())) | {"hash": ""}
    document["splits"][0]["train"].append("z")
    path.write_text(json.dumps(document))
    assert read_splits(path)[0].train[-1] == "z"
    document["splits"][0]["train"].append("d")
    path.write_text(json.dumps(document))
    with pytest.raises(OodmlError, match="step -2: class 'd'"):
        read_splits(path)


def test_deep_nesting_and_size_end_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text("[" * 100_000)
    with pytest.raises(OodmlError, match="JSON"):
        read_splits(path)
    with pytest.raises(OodmlError, match="100,000 bytes"):
        read_splits(path, limit=99)
    with pytest.raises(OodmlError, match=r"\.json"):
        read_splits(tmp_path / "splits.txt")
    with pytest.raises(OodmlError, match=r"none\.json"):
        read_splits(tmp_path / "none.json")


def test_the_published_file_is_read_whole(reference: Path, tmp_path: Path) -> None:
    source = reference / "cars196_splits.pkl"
    result = read_splits(source)
    assert (result.data, len(result)) == ("cars196", 8)
    assert [len(split.train) for split in result] == [98] * 5 + [86, 74, 62]
    assert [len(split.test) for split in result] == [98] * 5 + [86, 74, 62]
    assert [split.step for split in result] == [0, 6, 16, 20, 30, "R18", "R42", "R66"]
    published = [8.59, 14.33, 32.18, 43.58, 63.29, 86.12, 101.17, 123.03]
    assert [split.shift for split in result] == pytest.approx(published, abs=0.005)
    for split in result:
        assert len(split.validation) == round(0.255 * len(split.train))
        assert {shots: len(drawn) for shots, drawn in split.episodes.items()} == {
            2: 10, 5: 10, 10: 10,
        }  # fmt: skip
    written = tmp_path / "again.pkl"
    write_splits(result, written)
    plain = load_plain(source.read_bytes())
    again = pickle.loads(written.read_bytes())
    assert [split.pop("step") for split in again.values()] == [split.step for split in result]
    assert again == plain
    assert not any(op.name == "GLOBAL" for op, *_ in pickletools.genops(written.read_bytes()))
    write_splits(result, tmp_path / "again.json")
    assert read_splits(tmp_path / "again.json") == result


def test_different_content_under_a_published_name_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "cars196_splits.pkl"
    path.write_bytes(numpy_pickle())
    with pytest.warns(UserWarning, match="published"):
        assert read_splits(path).data == ""


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_numpy_scalars_are_read(protocol: int) -> None:
    values = [np.float32(0.5), np.int64(-3), np.str_("é"), np.bool_(True), 7, "x"]
    plain = load_plain(pickle.dumps([values, ("t", None)], protocol=protocol))
    assert plain == [[0.5, -3, "é", True, 7, "x"], ("t", None)]
    assert {type(value) for value in plain[0]} == {float, int, str, bool}


class _Harmful:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "call", [(eval, ("1/0",)), (np.frombuffer, (b"12345678",)), (getattr, ("", "join"))]
)
def test_other_names_are_refused(protocol: int, call: Any) -> None:
    raw = pickle.dumps({1: {"train": [_Harmful(*call)]}}, protocol=protocol)
    with pytest.raises(OodmlError, match="nothing was run"):
        load_plain(raw)


def test_object_arrays_inside_scalars_are_refused() -> None:
    raw = numpy_pickle().replace(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8")
    with pytest.raises(OodmlError, match="O8"):
        load_plain(raw)


def test_characters_that_do_not_exist_are_refused() -> None:
    raw = pickle.dumps(np.str_("ab"), protocol=3)
    assert load_plain(raw) == "ab"
    with pytest.raises(OodmlError, match="characters"):
        load_plain(raw.replace(b"b\0\0\0", b"b\0\x11\0"))


@SHARED
@given(st.data(), st.sampled_from([0, 2, 3, 4]))
def test_any_changed_or_cut_pickle_is_an_error_or_valid(
    tmp_path: Path, data: st.DataObject, protocol: int
) -> None:
    raw = bytearray(numpy_pickle(protocol))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "splits.pkl"
    path.write_bytes(bytes(raw))
    result = outcome(lambda: read_splits(path))
    if isinstance(result, Progression):
        write_splits(result, tmp_path / "again.json")
        assert read_splits(tmp_path / "again.json") == result
    else:
        assert str(path) in result


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x03]r\xff\xff\xff\xff.",  # a memo index of four billion
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame of eight exabytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",  # bytes as long
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02(" + b"\x85" * 100_000 + b"}(" + b".",
        b")" + b"\x85" * 50_000 + b"}" + b"N" + b"s.",
        b"",
        b".",
        b"}",
    ],
)
def test_hostile_pickles_end_in_errors(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "splits.pkl"
    path.write_bytes(raw)
    with pytest.raises(OodmlError):
        read_splits(path)


def test_repeated_references_to_a_list_do_not_fill_the_memory() -> None:
    names = [f"c{i}" for i in range(3000)]
    episode = dict.fromkeys(names, names)
    many = {2: dict.fromkeys(range(1000), episode)}
    layout = {1: {"train": ["a", "b"], "test": names, "fid": 1.0, "test_episodes": many}}
    with pytest.raises(OodmlError, match="5,000,000"):
        from_published(layout)


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"fid": "x"}, "split 1, fid"),
        ({"train": "abc"}, "split 1, train"),
        ({"train": [None]}, "split 1, train"),
        ({"extra": 1}, "split 1"),
        ({"split_train": ["a"]}, "split 1"),
        ({"test_episodes": {2: {1: {}}}}, "split 1, 2 shots"),
        ({"test_episodes": {"2": {}}}, "split 1, test_episodes"),
    ],
)
def test_another_layout_is_located(change: dict[str, Any], location: str) -> None:
    layout = to_published(replace(example(), splits=example().splits[:1]))
    with pytest.raises(OodmlError) as error:
        from_published({1: layout[1] | change})
    assert error.value.location == location


def test_classwise_episodes_are_lists_of_classes_in_the_layout() -> None:
    split = example()[1]
    layout = to_published(replace(example(), splits=(split,)))
    assert layout[1]["test_episodes"] == {2: {0: ["e", "d"]}}
    (result,) = from_published(layout)
    assert result.episodes[2][0] == Episode({"e": (), "d": ()}, class_wise=True)
