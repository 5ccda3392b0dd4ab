"""Study files as people write them: read right, or refused with the file and the key."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.shift.splits import Split
from oodml.study.launch import run_study
from oodml.study.preview import preview
from oodml.study.spec.consistency import check_class_sizes, check_split
from oodml.study.spec.smoke import smoke_study
from oodml.study.spec.study_file import Study, parse_study, read_study
from tests.study.toy import execute, make_study

FILE = Path("study.toml")


def parse(**tables: Any) -> Study:
    return parse_study({"data": "glyphs", "methods": ["margin"]} | tables, FILE)


def labels(study: Study) -> list[str]:
    return [variant.label for variant in study.variants]


def refusal(**tables: Any) -> OodmlError:
    with pytest.raises(OodmlError) as raised:
        parse(**tables)
    return raised.value


BOTH = {
    "train.lr and adapt.lr": {"train": {"lr": [1e-3, 1.0]}, "adapt": {"lr": [1e-4, 1e-2]}},
    "batch sizes": {"train": {"batch_size": [16, 32]}, "adapt": {"batch_size": [16, 32]}},
    "model.views and adapt.views": {"model": {"views": [1, 2]}, "adapt": {"views": [1, 2]}},
    "an option and adapt.beta": {
        "methods": {"margin": {"beta": [0.6, 1.2]}},
        "adapt": {"beta": [0.6, 1.2]},
    },
}


@pytest.mark.parametrize("case", BOTH)
def test_every_combination_has_its_own_label(case: str) -> None:
    names = labels(parse(**BOTH[case]))
    assert len(set(names)) == len(names) == 4


def test_labels_name_the_table_of_a_key() -> None:
    study = parse(train={"lr": [1e-3, 1.0]}, adapt={"lr": [1e-4, 1e-2]})
    assert labels(study)[1] == "margin train.lr=0.001 adapt.lr=0.01"


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"methods": {"margin": {"beta": [1.2, 1.2]}}}, "methods.margin.beta"),
        ({"train": {"lr": [1e-3, 0.001]}}, "train.lr"),
        ({"adapt": {"beta": [1, 1.0]}}, "adapt.beta"),
        ({"model": {"backbone": ["lite0", "pixels", "lite0"]}}, "model.backbone"),
        ({"methods": {"a": {"method": "margin"}, "b": {"method": "margin"}}}, "methods.b"),
        (
            {"methods": {"m": {"method": "margin", "beta": [0.6, 1.2]},
                         "m beta=0.6": {"method": "arcface"}}},
            "methods.m beta=0.6",
        ),
    ],
)  # fmt: skip
def test_what_would_count_as_a_second_seed_is_refused(tables: dict, key: str) -> None:
    assert refusal(**tables).location == f"study.toml: {key}"


def test_repeated_seeds_shots_and_methods_count_once() -> None:
    study = parse(seeds=[0, 1, 0], shots=[2, 2], methods=["margin", "margin"])
    assert [variant.seeds for variant in study.variants] == [(0, 1)]
    assert study.shots == (2,)


def test_methods_are_told_apart_by_what_changes_their_numbers() -> None:
    same = {"method": "margin"}
    assert len(parse(methods={"a": same, "b": same | {"beta": 0.6}}).variants) == 2
    assert (
        len(parse(methods={"a": same | {"seeds": [0]}, "b": same | {"seeds": [1]}}).variants) == 2
    )
    frozen = {"method": "frozen"}
    trained = frozen | {"train": {"epochs": 3}}
    assert refusal(methods={"a": frozen, "b": trained}).given == "b"


def test_a_baseline_runs_once_whatever_is_varied() -> None:
    study = parse(methods=["frozen", "margin"], seeds=[3, 4], train={"lr": [1e-3, 1e-2]})
    assert labels(study) == ["frozen", "margin train.lr=0.001", "margin train.lr=0.01"]
    assert [variant.seeds for variant in study.variants] == [(3,), (3, 4), (3, 4)]
    assert [variant.trains for variant in study.variants] == [False, True, True]


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"model": {"mode": "finetune", "backbone": "small", "views": 2}}, "model.views"),
        (
            {"methods": {"m": {"method": "margin", "model": {"mode": "finetune", "views": 2}}}},
            "methods.m.model.views",
        ),
    ],
)
def test_views_without_effect_are_refused(tables: dict, key: str) -> None:
    assert key in str(refusal(**tables).location)


def test_keys_that_a_method_ignores_make_no_variants() -> None:
    finetune = {"method": "margin", "model": {"mode": "finetune", "backbone": "small"}}
    study = parse(model={"views": [1, 2]}, methods={"margin": {}, "whole": finetune})
    assert labels(study) == ["margin model.views=1", "margin model.views=2", "whole"]
    study = parse(adapt={"lr": [1e-3, 1e-2]}, methods={"margin": {"few_shot": False}}, shots=[2])
    assert labels(study) == ["margin"]


@pytest.mark.parametrize(
    ("tables", "key", "given"),
    [
        ({"splits": {"n_splits": 0}}, "splits.n_splits", 0),
        ({"splits": {"n_splits": -1}}, "splits.n_splits", -1),
        ({"splits": {"seed": 2**70}}, "splits.seed", 2**70),
        ({"seeds": [2**70]}, "seeds.0", 2**70),
        ({"seeds": [-1]}, "seeds.0", -1),
        ({"methods": {"margin": {"seeds": [2**63]}}}, "methods.margin.seeds.0", 2**63),
        ({"model": {"image_size": 0}}, "model.image_size", 0),
        ({"shots": [-2]}, "shots.0", -2),
        ({"episodes": 0}, "episodes", 0),
        ({"train": {"lr": float("inf")}}, "train.lr", float("inf")),
        ({"train": {"weight_decay": -1.0}}, "train.weight_decay", -1.0),
        ({"adapt": {"metrics": ["recall@0"]}}, "adapt.metrics", "recall@0"),
        ({"data": " "}, "data", " "),
        ({"data": 3}, "data", 3),
        ({"methods": {"margin": 3}}, "methods.margin", 3),
    ],
)
def test_impossible_values_are_refused(tables: dict, key: str, given: object) -> None:
    error = refusal(**tables)
    assert (error.location, error.given) == (f"study.toml: {key}", given)


def test_nan_is_refused() -> None:
    assert refusal(methods={"margin": {"beta": float("nan")}}).location.endswith("margin.beta")


@pytest.mark.parametrize("head", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_byte_order_mark_is_ignored(tmp_path: Path, head: bytes, newline: bytes) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(head + newline.join([b'data = "glyphs"', b'methods = ["frozen"]', b""]))
    assert labels(read_study(file)) == ["frozen"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes('# Größe\ndata = "glyphs"\nmethods = ["frozen"]\n'.encode(encoding))
    with pytest.raises(OodmlError, match="UTF-8") as raised:
        read_study(file)
    assert raised.value.location == str(file)


def test_a_path_with_a_colon_is_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path / "study", tmp_path / "elsewhere"):
        for name in ("2024:03", "photos:v2"):
            (folder / name / "class").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("2024:03", "photos:v2"):
        for data in (name, {"name": name}):
            study = parse_study(
                {"data": data, "methods": ["margin"]}, tmp_path / "study" / "s.toml"
            )
            assert study.data.name == str(tmp_path / "study" / name)
    assert parse(data="mylab.data:photos").data.name == "mylab.data:photos"
    assert parse(data="hf:some/set").data.name == "hf:some/set"
    assert refusal(data="2024:04").location == "study.toml: data"


@pytest.mark.parametrize(
    ("content", "word"), [("plan.json", "status"), ("a.toml", "a.toml"), ("cat/1.png", "init")]
)
def test_a_folder_in_place_of_a_file_gets_advice(tmp_path: Path, content: str, word: str) -> None:
    (tmp_path / "x" / content).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "x" / content).write_text("{}")
    with pytest.raises(OodmlError, match=word) as raised:
        read_study(tmp_path / "x")
    assert raised.value.location == str(tmp_path / "x")


def image_set(*sizes: int) -> ImageSet:
    names = [f"c{number}" for number, size in enumerate(sizes) for _ in range(size)]
    ids = [f"{name}/{row}.png" for row, name in enumerate(names)]
    return ImageSet("toys", np.array(ids), np.array(names), root=Path("toys"))


def test_shots_that_no_class_can_give_are_refused() -> None:
    check_class_sizes((2, 9), image_set(3, 10))
    with pytest.raises(OodmlError, match="'c1'") as raised:
        check_class_sizes((2, 10), image_set(3, 10))
    assert (raised.value.location, raised.value.given) == ("shots", 10)
    with pytest.raises(OodmlError, match="'c2'") as raised:
        check_class_sizes((), image_set(1, 1, 1))
    assert raised.value.location == "data"


def test_splits_that_cannot_be_evaluated_are_refused() -> None:
    images = image_set(4, 4, 1, 1, 2)
    check_split(Split(0, ("c0", "c1"), ("c2", "c4"), 1.0), images, "splits.json")
    with pytest.raises(OodmlError, match="'c2', 'c3'"):
        check_split(Split(0, ("c0", "c1"), ("c2", "c3"), 1.0), images, "splits.json")
    with pytest.raises(OodmlError, match="validation.*'c3'"):
        check_split(Split(0, ("c0", "c3"), ("c1",), 1.0, ("c3",)), images, "splits.json")
    with pytest.raises(OodmlError, match="splits.validation"):
        check_split(Split(0, ("c0",), ("c1",), 1.0), images, "study", validate=True)


def test_impossible_shots_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path)).model_copy(update={"shots": (2,)})
    for start in (preview, lambda one, out: run_study(one, out, execute=execute, device="cpu")):
        with pytest.raises(OodmlError) as raised:
            start(study, tmp_path / "out")
        assert raised.value.given == 2
    assert not (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize("train", [("c00", "c05", "c07"), ("elsewhere",)])
def test_a_smoke_test_keeps_training_classes(tmp_path: Path, train: tuple[str, ...]) -> None:
    for number in range(8):
        for index in range(9):
            path = tmp_path / "photos" / f"c{number:02}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number * 20, index * 20, 0)).save(path)
    tables = {
        "data": "photos", "methods": ["margin"], "shots": [7], "splits": {"train_classes": train},
    }  # fmt: skip
    study = smoke_study(parse_study(tables, tmp_path / "s.toml"), tmp_path / "out")
    expected = train if len(train) == 3 else ("c00", "c01", "c02", "c03")
    assert study.splits.train_classes == expected  # type: ignore[union-attr]
    assert study.data.options["few"] == [24, 9]


SCALARS = st.one_of(
    st.none().map(lambda _: "x"),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 8),
    st.floats(),
    st.text(max_size=6),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["low", "high", "log", "lr", "x"]), inner, max_size=3),
    ),
    max_leaves=5,
)
KEYS = {
    "": ["data", "seeds", "shots", "episodes", "name", "methods", "search", "sedes"],
    "splits": ["n_splits", "steps", "ends", "seed", "validation", "harder", "file", "backbone"],
    "model": ["mode", "dim", "views", "image_size", "input_cache", "backbone", "weights"],
    "train": ["epochs", "lr", "batch_size", "per_class", "select", "precision", "refit"],
    "adapt": ["lr", "objective", "metrics", "iterations", "views", "beta"],
    "methods": ["margin", "frozen", "criterion", ""],
}


@st.composite
def study_tables(draw: st.DrawFn) -> dict[str, Any]:
    """A valid study file with one to three values replaced."""
    tables: dict[str, Any] = {"data": "glyphs", "methods": {"margin": {"beta": 1.2}}}
    for _ in range(draw(st.integers(1, 3))):
        part = draw(st.sampled_from(sorted(KEYS)))
        target = tables if not part else tables.setdefault(part, {})
        if isinstance(target, dict):
            target[draw(st.sampled_from(KEYS[part]))] = draw(VALUES)
    return tables


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(study_tables())
def test_any_study_file_is_parsed_or_refused_with_a_location(tables: dict[str, Any]) -> None:
    try:
        names = labels(parse_study(tables, FILE))
        assert len(set(names)) == len(names) > 0
    except OodmlError as error:
        check_location(error, "study.toml")


def check_location(error: OodmlError, file: str) -> None:
    assert error.location.startswith(file)
    assert file in str(error)


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.binary(max_size=60), study_tables().map(lambda t: tomli_w.dumps(t).encode())))
def test_any_bytes_are_read_or_refused_with_a_location(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.toml"
        file.write_bytes(content)
        try:
            read_study(file)
        except OodmlError as error:
            check_location(error, str(file))


BOUNDS = st.one_of(st.floats(), st.integers(-5, 5), st.just(1e-3), st.text(max_size=3))


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["train.lr", "train.epochs", "model.dim", "beta", "train.precision"]),
    st.one_of(
        st.fixed_dictionaries({"low": BOUNDS, "high": BOUNDS}, optional={"log": st.booleans()}),
        st.lists(BOUNDS, max_size=4),
    ),
)
def test_any_range_is_parsed_or_refused_with_a_location(name: str, value: Any) -> None:
    part, _, key = name.rpartition(".")
    tables = {part: {key: value}} if part else {"methods": {"margin": {key: value}}}
    try:
        study = parse(search=2, **tables)
    except OodmlError as error:
        check_location(error, "study.toml: ")
        return
    one = study.variants[0].ranges[name]
    for extreme in one.values:
        assert not hasattr(one, "low") or one.low <= extreme <= one.high


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_demo_and_the_tests_can_run_in_either_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    for name in ("demo", "shipped:demo"):
        listed = call("study", "run", name, "--out", "out", "--dry-run", "--smoke")
        assert listed.exit_code == 0, listed.output
        assert "from_pixels" in listed.output
