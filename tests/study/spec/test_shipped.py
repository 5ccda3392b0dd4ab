"""The studies that come with the package: what they say, and that they run."""

import itertools
import json
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.study.spec.shipped import check_data, open_study, shipped_studies
from oodml.study.spec.smoke import smoke_study
from oodml.study.spec.study_file import SplitFile, Study

DATA = ("cub200", "cars196", "online_products")
PAPER = [f"paper_{kind}_shot_{name}" for kind in ("zero", "few") for name in DATA]
# the table of methods of the paper, its values for CUB / CARS / SOP
TABLE = {
    ("margin", "margin"): (0.2, 0.2, 0.2),
    ("margin", "beta"): (1.2, 1.2, 1.2),
    ("margin", "beta_lr"): (5e-4, 5e-4, 5e-4),
    ("multisimilarity", "positive_weight"): (2, 2, 2),
    ("multisimilarity", "negative_weight"): (40, 40, 40),
    ("multisimilarity", "margin"): (0.1, 0.1, 0.1),
    ("multisimilarity", "threshold"): (0.5, 0.5, 0.5),
    ("arcface", "margin"): (0.5, 0.5, 0.5),
    ("arcface", "scale"): (16, 16, 16),
    ("arcface", "vector_lr"): (5e-4, 5e-4, 5e-4),
    ("proxy_anchor", "alpha"): (32, 32, 32),
    ("proxy_anchor", "delta"): (0.1, 0.1, 0.1),
    ("proxy_anchor", "lr_factor"): (2000, 2000, 2000),
    ("r_margin", "probability"): (0.4, 0.35, 0.15),
    ("r_margin", "beta"): (0.6, 0.6, 0.9),
    ("uniform_prior", "weight"): (0.2, 0.2, 0.02),
    ("uniform_prior", "every"): (10, 10, 200),
    ("uniform_prior", "hidden"): (100, 100, 50),
    ("uniform_prior", "chunk"): (128, 128, 128),
    ("uniform_prior", "discriminator_lr"): (1e-5, 1e-5, 1e-5),
    ("s2sd", "weight"): (50, 50, 5),
    ("s2sd", "feature_weight"): (50, 50, 5),
    ("s2sd", "feature_start"): (0, 0, 1000),
    ("s2sd", "dims"): ([1024, 1536, 2048],) * 3,
    ("s2sd", "miner"): ("rho_distance", "rho_distance", "distance"),
    ("s2sd", "miner_options"): ({"probability": 0.4}, {"probability": 0.3}, None),
    ("s2sd", "loss_options"): (
        {"beta": 0.6, "beta_lr": 1e-5},
        {"beta": 0.6, "beta_lr": 1e-5},
        {"beta": 0.9, "beta_lr": 1e-5},
    ),
    ("diva", "separation"): (1500, 100, 150),
    ("diva", "alpha"): (0.3, 0.15, 0.2),
    ("diva", "queue_batches"): (30, 30, 70),
    ("diva", "momentum"): (0.9, 0.9, 0.9),
    ("diva", "temperature"): (0.01, 0.01, 0.01),
}
STEPS = {
    "cub200": ["-20", "-10", "0", "6", "10", "30", "R22", "R48", "R66"],
    "cars196": ["0", "6", "16", "20", "30", "R18", "R42", "R66"],
    "online_products": ["0", "1000", "2000", "3000", "4000", "5000", "R2000", "R6000"],
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_studies_hold_its_settings(name: str) -> None:
    study = open_study(name)
    column = DATA.index(study.data.name)
    variants = {variant.label: variant for variant in study.variants}
    for (method, option), values in TABLE.items():
        if method in variants:
            assert variants[method].options[option] == values[column], (method, option)
    epochs = 150 if study.data.name == "online_products" else 200
    for variant in (one for one in study.variants if one.label != "frozen"):
        assert (variant.train.epochs, variant.train.lr, variant.train.weight_decay) == (
            epochs,
            1e-5,
            4e-4,
        )
        assert variant.train.batch_size == {"diva": 108}.get(
            variant.label, variant.train.batch_size
        )
        assert variant.model.mode == "finetune"
        assert (variant.model.dim, variant.model.freeze_batch_norm) == (512, True)
        assert variant.model.augmentation == "base"
    assert not isinstance(study.splits, SplitFile)
    assert list(map(str, study.splits.steps or ())) == STEPS[study.data.name]
    if "few" in name:
        assert {*variants} == {"multisimilarity", "arcface", "s2sd", "diva"}
        assert study.shots == (2, 5)
        assert study.episodes == 10
        assert {variant.train.select for variant in study.variants} == {"recall@1+map@1000"}
        assert {variant.adapt.lr for variant in study.variants} == {1e-4}
    else:
        assert len(variants) == 9
        assert all(variant.train.refit for variant in study.variants)


def test_sop_trains_its_exceptions() -> None:
    variants = {
        variant.label: variant for variant in open_study("paper_zero_shot_online_products").variants
    }
    assert variants["proxy_anchor"].train.warmup_epochs == 1
    assert variants["s2sd"].model.backbone.startswith("resnet101")
    assert variants["s2sd"].train.batch_size == 104
    assert variants["s2sd"].model.pooling == "avg"
    cub = {variant.label: variant for variant in open_study("paper_zero_shot_cub200").variants}
    assert cub["s2sd"].model.pooling == "avg+max"


@pytest.mark.parametrize("name", PAPER)
def test_every_setting_is_written_in_the_file(name: str) -> None:
    """A reader finds what differs from the defaults without reading code."""
    tables = tomllib.loads(shipped_studies()[name])
    assert {"epochs", "batch_size", "lr", "weight_decay", "select"} <= set(tables["train"])
    assert {"backbone", "mode", "dim", "augmentation"} <= set(tables["model"])


def test_a_shipped_study_takes_the_users_data_and_splits(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text("{}")
    study = open_study("paper_few_shot_cub200", tmp_path, tmp_path / "splits.json")
    assert study.data.options["root"] == str(tmp_path)
    assert study.splits == SplitFile(file=tmp_path / "splits.json")
    assert study.text.startswith(f"# --data {tmp_path}\n# --splits ")
    with pytest.raises(OodmlError, match="nowhere") as raised:
        open_study("paper_few_shot_cub200", tmp_path / "nowhere")
    assert raised.value.location == "--data"


def test_a_mistyped_study_gets_suggestions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("paper_few_shot_cub20", "shipped:paper_few_shot_cub20"):
        with pytest.raises(OodmlError, match="paper_few_shot_cub200") as raised:
            open_study(name)
        assert "demo" in raised.value.allowed
    (tmp_path / "photos.toml").write_text("")
    with pytest.raises(OodmlError, match="photos.toml") as raised:
        open_study("photo.toml")
    assert raised.value.location == "photo.toml"


def test_only_a_file_shadows_a_shipped_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = open_study("shipped:demo")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "plan.json").write_text("{}")
    assert open_study("demo") == shipped
    (tmp_path / "demo").rename(tmp_path / "results")
    (tmp_path / "demo").write_text('data = "glyphs"\nmethods = ["margin"]\n')
    assert [variant.label for variant in open_study("demo").variants] == ["margin"]
    assert open_study("shipped:demo") == shipped


def test_a_paper_study_without_data_names_the_download() -> None:
    study = open_study("paper_zero_shot_cub200")
    with pytest.raises(OodmlError, match="oodml data fetch cub200") as raised:
        check_data(study, "paper_zero_shot_cub200")
    assert raised.value.location == "data.root"
    check_data(open_study("shipped:demo"), "shipped:demo")


def test_every_shipped_study_reads() -> None:
    studies = {name: open_study(name) for name in shipped_studies()}
    objectives = {f"objectives_{data}" for data in ("emoji", "glyphs")}
    assert {*studies} == {"demo", "glyphs_methods", "glyphs_search", *objectives, *PAPER}
    for one, other in itertools.pairwise(studies[name] for name in sorted(objectives)):
        assert [v.label for v in one.variants] == [v.label for v in other.variants]
        assert [v.ranges for v in one.variants] == [v.ranges for v in other.variants]
        assert one.search.trials == other.search.trials
    methods = {variant.method for variant in studies["glyphs_methods"].variants}
    assert methods == {variant.method for variant in open_study("paper_zero_shot_cub200").variants}
    assert studies["glyphs_search"].search is not None
    searched = {variant.label: variant for variant in studies["glyphs_search"].variants}
    for variant in studies["glyphs_methods"].variants:  # what was searched is what is run
        twin = searched[variant.label]
        assert variant.model == twin.model
        assert (variant.train.epochs, variant.train.per_class) == (
            twin.train.epochs,
            twin.train.per_class,
        )


def smoked(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, pd.DataFrame]:
    monkeypatch.setenv("OODML_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["study", "run", name, "--smoke", "--out", "results"])
    assert done.exit_code == 0, done.output
    study = smoke_study(open_study(name), folder / "results")
    return study, pd.read_parquet(folder / "results" / "results.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_a_smoke_run_goes_to_the_end(name: str, tmp_path: Path, monkeypatch) -> None:
    study, table = smoked(name, tmp_path, monkeypatch)
    assert set(table.method) == {variant.label for variant in study.variants}
    assert table.split.nunique() == 2
    assert set(table.stage) >= {"zero_shot"} | ({"before", "after"} if "few" in name else set())
    plan = json.loads((tmp_path / "results" / "plan.json").read_text())
    assert plan["source"]["options"]["few"] == [24, 6]


def test_a_smoke_study_is_a_minute_of_the_same(tmp_path: Path) -> None:
    whole = open_study("paper_zero_shot_cars196")
    study = smoke_study(whole, tmp_path)
    assert [variant.label for variant in study.variants] == [
        variant.label for variant in whole.variants
    ]
    for variant in study.variants:
        assert variant.model.weights == "none"
        assert variant.model.image_size == 64
        assert (variant.train.epochs, variant.train.batch_size) == (1, 16)
        assert variant.train.refit
    images = study.data.options["root"]
    assert len(list(Path(images).rglob("*.jpg"))) == 144
    (tmp_path / "cars196" / "images").mkdir(parents=True)
    present = smoke_study(open_study("paper_zero_shot_cars196", tmp_path / "cars196"), tmp_path)
    assert {variant.model.weights for variant in present.variants} == {None}
    assert present.data.options["root"] == str(tmp_path / "cars196")
