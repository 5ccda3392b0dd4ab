"""Reading study files: what is taken, and what each mistake is told."""

from pathlib import Path

import pytest

from oodml.errors import OodmlError
from oodml.study.spec.smoke import smaller
from oodml.study.spec.study_file import SplitFile, read_study, with_precision
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
        "margin lr=0.001 beta=0.6",
        "margin lr=0.001 beta=1.2",
        "margin lr=0.0001 beta=0.6",
        "margin lr=0.0001 beta=1.2",
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


MISTAKES = {
    "unknown key": ("sedes = [1]\n", "sedes", "Did you mean 'seeds'", "Allowed:"),
    "unknown option": ("[methods.margin]\nbta = 1.0\n", "methods.margin.bta", "'beta'"),
    "unknown method": ("[methods.margim]\n", "methods.margim", "'margin'", "Allowed:"),
    "unknown base method": ('[methods.a]\nmethod = "margim"\n', "methods.a", "'margin'"),
    "unknown model key": ("[model]\nbackbne = 1\n", "model.backbne", "'backbone'"),
    "unknown own key": (
        "[methods.margin]\nmodel = {dimm = 3}\n",
        "methods.margin.model.dimm",
        "'dim'",
    ),
    "unknown choice": ('[model]\nmode = "heads"\n', "model.mode", "'heads'", "'head'", "finetune"),
    "unknown backbone": ('[model]\nbackbone = "lite00"\n', "model.backbone", "'lite0'"),
    "unknown own backbone": (
        '[methods.margin]\nmodel = {backbone = "lite00"}\n',
        "methods.margin.model.backbone",
        "'lite0'",
    ),
    "unknown data": ('data = "glyps"\n', "data", "'glyps'", "'glyphs'", "does not exist"),
    "unknown data in a table": ('data = {name = "nowhere"}\n', "data.name", "nowhere"),
    "no data name": ('data = {root = "photos"}\n', "data.name", "is needed"),
    "wrong type": ('seeds = "3"\n', "seeds", "'3'"),
    "wrong item": ("seeds = [1.5]\n", "seeds.0", "1.5"),
    "wrong option type": ('[methods.margin]\nbeta = "x"\n', "methods.margin.beta", "'x'"),
    "truth for a number": ("[train]\nepochs = true\n", "train.epochs", "True"),
    "out of range": ("[train]\nepochs = -1\n", "train.epochs", "-1", "greater than or equal to 0"),
    "no table": ("train = 3\n", "train", "3"),
    "no seeds": ("seeds = []\n", "seeds", "[]"),
    "no shots": ("shots = [0]\n", "shots", "0"),
    "no split file": ('[splits]\nfile = "none.json"\n', "splits.file", "does not exist"),
    "unknown split key": ("[splits]\nprocedre = 1\n", "splits.procedre", "'procedure'"),
    "no weights": ('[model]\nweights = "w.pth"\n', "weights", "does not exist"),
    "bad loss": ('[methods.a]\nmethod = "criterion"\nloss = "margn"\n', "methods.a", "'margin'"),
    "missing option": ('[methods.a]\nmethod = "criterion"\n', "methods.a.loss", "needed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place(mistake: str, tmp_path: Path) -> None:
    text, *words = MISTAKES[mistake]
    head = "" if text.startswith("data") else 'data = "photos"\n'
    tail = "" if "[methods" in text else "[methods.margin]\n"
    with pytest.raises(OodmlError) as told:
        read(tmp_path, head + text + tail)
    message = str(told.value)
    for word in ("mine.toml", *words):
        assert word in message, message
    assert not list(tmp_path.glob("runs"))


@pytest.mark.parametrize(
    ("text", "word"),
    [("data = \n", "not TOML"), ("", "data"), ('data = "photos"\n', "methods"), ("\0", "not TOML")],
)
def test_a_broken_file_is_told(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match=word):
        read(tmp_path, text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="nothing.toml: cannot be read"):
        read_study(tmp_path / "nothing.toml")


def test_a_method_that_makes_no_sense_in_a_mode_is_refused(tmp_path: Path, monkeypatch) -> None:
    from oodml.methods.margin import Method

    monkeypatch.setattr(Method, "modes", {"finetune": "", "head": "it needs images"})
    with pytest.raises(OodmlError, match="'head': it needs images. Allowed: finetune"):
        read(tmp_path, 'data = "photos"\n[methods.margin]\n')


def test_a_smaller_study_keeps_every_method(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    small = smaller(study, tmp_path)
    assert [variant.label for variant in small.variants] == [
        variant.label for variant in study.variants
    ]
    assert {variant.seeds for variant in small.variants} == {(0,)}
    assert {variant.train.epochs for variant in small.variants} == {1}
    assert small.episodes == 1


def test_a_precision_is_of_networks_that_train(tmp_path: Path) -> None:
    whole = '[methods.whole]\nmethod = "margin"\nmodel = {backbone = "small", mode = "finetune"}\n'
    study = toy_study(tmp_path, more=whole)
    variants = {
        variant.label: variant.train.precision
        for variant in with_precision(study, "bf16", tmp_path).variants
    }
    assert variants == {"margin": "fp32", "multisimilarity": "fp32", "whole": "bf16"}
    with pytest.raises(OodmlError, match="precision"):
        with_precision(study, "fp7", tmp_path)
    heads = study.model_copy(update={"variants": study.variants[:2]})
    with pytest.raises(OodmlError, match="where it changes nothing"):
        with_precision(heads, "bf16", tmp_path)


@pytest.mark.parametrize("few", ["[0, 6]", "[-1, 2]", "[4, 0]", "[4]", "4", "[4.0, 2]"])
def test_a_few_are_two_classes_at_least(tmp_path: Path, few: str) -> None:
    with pytest.raises(OodmlError, match=r"data.few: given .*2 classes and 1 image at the least"):
        read(tmp_path, f'data = {{name = "glyphs", few = {few}}}\nmethods = ["margin"]\n')
