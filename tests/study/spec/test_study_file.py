"""Reading study files: what is accepted, and how each mistake is reported."""

from pathlib import Path

import pytest

from oodml.errors import OodmlError
from oodml.study.spec.smoke import smoke_study
from oodml.study.spec.study_file import SplitFile, read_study
from tests.study.toy import make_study, toy_study


def read(folder: Path, text: str):
    (folder / "photos" / "ash").mkdir(parents=True, exist_ok=True)
    file = folder / "mine.toml"
    file.write_text(text)
    return read_study(file)


def test_a_minimal_file_needs_data_and_methods(tmp_path: Path) -> None:
    study = read(tmp_path, 'data = "photos"\nmethods = ["margin", "arcface"]\n')
    assert study.name == "mine"
    assert study.data.name == str(tmp_path / "photos")
    assert [variant.label for variant in study.variants] == ["margin", "arcface"]
    assert study.variants[0].options["margin"] == 0.2  # the method's default, written out
    assert study.variants[0].seeds == (0,)


def test_a_method_may_have_settings_of_its_own(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        'data = "photos"\nseeds = [0, 1]\n[train]\nepochs = 3\nbatch_size = 16\n'
        "[methods.margin]\nbeta = 1\n"
        '[methods.pixels]\nmethod = "margin"\nmodel = {mode = "finetune"}\ntrain = {epochs = 9}\n'
        "seeds = [7]\n",
    )
    margin, pixels = study.variants
    assert (margin.train.epochs, margin.model.mode, margin.seeds) == (3, "head", (0, 1))
    assert (pixels.train.epochs, pixels.model.mode, pixels.seeds) == (9, "finetune", (7,))
    assert pixels.train.batch_size == 16
    assert margin.options["beta"] == 1.0
    assert isinstance(margin.options["beta"], float)


def test_listed_values_make_a_grid(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        'data = "photos"\n[train]\nlr = [1e-3, 1e-4]\n[methods.margin]\nbeta = [0.6, 1.2]\n'
        '[adapt]\nmetrics = ["recall@1"]\n',
    )
    assert [variant.label for variant in study.variants] == [
        "margin train.lr=0.001 beta=0.6",
        "margin train.lr=0.001 beta=1.2",
        "margin train.lr=0.0001 beta=0.6",
        "margin train.lr=0.0001 beta=1.2",
    ]
    assert [(variant.train.lr, variant.options["beta"]) for variant in study.variants] == [
        (1e-3, 0.6),
        (1e-3, 1.2),
        (1e-4, 0.6),
        (1e-4, 1.2),
    ]
    assert study.variants[0].adapt.metrics == ("recall@1",)  # a list is expected there


def test_splits_may_come_from_a_file(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path))
    assert study.splits == SplitFile(file=tmp_path / "splits.json")


# the text, the key of the error, the given value (None: not checked), and an allowed value
MISTAKES = {
    "unknown key": ("sedes = [1]\n", "sedes", "sedes", "seeds"),
    "unknown option": ("[methods.margin]\nbta = 1.0\n", "methods.margin.bta", "bta", "beta"),
    "unknown method": ("[methods.margim]\n", "methods.margim", "margim", "margin"),
    "unknown base method": ('[methods.a]\nmethod = "margim"\n', "methods.a", "margim", "margin"),
    "unknown model key": ("[model]\nbackbne = 1\n", "model.backbne", "backbne", "backbone"),
    "unknown own key": (
        "[methods.margin]\nmodel = {dimm = 3}\n",
        "methods.margin.model.dimm",
        "dimm",
        "dim",
    ),
    "unknown choice": ('[model]\nmode = "heads"\n', "model.mode", "heads", "finetune"),
    "unknown backbone": ('[model]\nbackbone = "lite00"\n', "model.backbone", "lite00", "lite0"),
    "unknown own backbone": (
        '[methods.margin]\nmodel = {backbone = "lite00"}\n',
        "methods.margin.model.backbone",
        "lite00",
        "lite0",
    ),
    "unknown data": ('data = "glyps"\n', "data", "glyps", "glyphs"),
    "unknown data in a table": ('data = {name = "nowhere"}\n', "data.name", "nowhere", "glyphs"),
    "no data name": ('data = {root = "photos"}\n', "data.name", None, None),
    "wrong type": ('seeds = "3"\n', "seeds", "3", None),
    "wrong item": ("seeds = [1.5]\n", "seeds.0", 1.5, None),
    "wrong option type": ('[methods.margin]\nbeta = "x"\n', "methods.margin.beta", "x", None),
    "truth for a number": ("[train]\nepochs = true\n", "train.epochs", True, None),
    "out of range": ("[train]\nepochs = -1\n", "train.epochs", -1, None),
    "no table": ("train = 3\n", "train", 3, None),
    "no seeds": ("seeds = []\n", "seeds", [], None),
    "no shots": ("shots = [0]\n", "shots.0", 0, None),
    "no split file": ('[splits]\nfile = "none.json"\n', "splits.file", "none.json", None),
    "unknown split key": ("[splits]\nprocedre = 1\n", "splits.procedre", "procedre", "procedure"),
    "no weights": ('[model]\nweights = "w.pth"\n', "model.weights", "w.pth", None),
    "bad loss": (
        '[methods.a]\nmethod = "criterion"\nloss = "margn"\n',
        "methods.a",
        None,
        "margin",
    ),
    "missing option": ('[methods.a]\nmethod = "criterion"\n', "methods.a", None, None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_with_its_location(mistake: str, tmp_path: Path) -> None:
    text, key, given, allowed = MISTAKES[mistake]
    head = "" if text.startswith("data") else 'data = "photos"\n'
    tail = "" if "[methods" in text else "[methods.margin]\n"
    with pytest.raises(OodmlError) as raised:
        read(tmp_path, head + text + tail)
    error = raised.value
    assert error.location == f"{tmp_path / 'mine.toml'}: {key}"
    assert error.location in str(error)
    if given is not None:
        assert error.given == given
        assert repr(given) in str(error)
    if allowed is not None:
        assert allowed in error.allowed
        assert allowed in str(error)
    assert not list(tmp_path.glob("runs"))


@pytest.mark.parametrize(
    ("text", "word"),
    [("data = \n", "TOML"), ("", "data"), ('data = "photos"\n', "methods"), ("\0", "TOML")],
)
def test_a_broken_file_is_refused(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match=word) as raised:
        read(tmp_path, text)
    assert "mine.toml" in raised.value.location


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as raised:
        read_study(tmp_path / "nothing.toml")
    assert raised.value.location == str(tmp_path / "nothing.toml")


def test_a_mode_that_a_method_does_not_support_is_refused(tmp_path: Path, monkeypatch) -> None:
    from oodml.methods.margin import Method

    monkeypatch.setattr(Method, "modes", {"finetune": "", "head": "it needs images"})
    with pytest.raises(OodmlError, match="it needs images") as raised:
        read(tmp_path, 'data = "photos"\n[methods.margin]\n')
    assert (raised.value.given, raised.value.allowed) == ("head", ("finetune",))


def test_a_smaller_study_keeps_every_method(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    small = smoke_study(study, tmp_path)
    assert [variant.label for variant in small.variants] == [
        variant.label for variant in study.variants
    ]
    assert {variant.seeds for variant in small.variants} == {(0,)}
    assert {variant.train.epochs for variant in small.variants} == {1}
    assert small.episodes == 1


@pytest.mark.parametrize("few", ["[0, 6]", "[-1, 2]", "[4, 0]", "[4]", "4", "[4.0, 2]"])
def test_few_needs_two_classes_and_one_image(tmp_path: Path, few: str) -> None:
    with pytest.raises(OodmlError) as raised:
        read(tmp_path, f'data = {{name = "glyphs", few = {few}}}\nmethods = ["margin"]\n')
    assert "data.few" in raised.value.location


def test_all_problems_of_a_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('data = "glyphs"\n[train]\nepoch = 3\nbatchsize = 2\n')
    with pytest.raises(OodmlError) as error:
        read_study(file)
    assert error.value.location == f"{file}: methods"
    keys = ('methods = ["', "train.epoch:", "train.batchsize:")
    assert all(key in str(error.value) for key in keys)
    file.write_text('data = "glyphs"\n[methods.marginn]\n[methods.arcface]\nscal = 3\n')
    with pytest.raises(OodmlError) as error:
        read_study(file)
    assert all(key in str(error.value) for key in ("methods.marginn", "methods.arcface.scal:"))
