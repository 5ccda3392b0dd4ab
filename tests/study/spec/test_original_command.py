"""Every command line of the original study scripts becomes a study with the paper's settings."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from oodml import catalog
from oodml.cli import app
from oodml.datasets._few import write_miniature
from oodml.errors import OodmlError
from oodml.methods._base import Sizes
from oodml.study.spec.original_command import (
    OriginalStudy,
    original_flags,
    studies_from_text,
)
from oodml.study.spec.shipped import open_study
from oodml.study.spec.study_file import parse_study
from oodml.study.spec.variants import Variant
from tests.docs.pages import ROOT

ORIGINAL = json.loads((ROOT / "tests" / "reference" / "original_commands.json").read_text())


def command(one: dict[str, Any]) -> str:
    words = ["python", one["script"]]
    for flag, value in one["flags"].items():
        words += [flag, *({True: []}.get(value, [value]) if not isinstance(value, list) else value)]
    return " ".join(words)


COMMANDS = [command(one) for one in ORIGINAL["commands"]]


def parse(study: OriginalStudy) -> dict[str, Variant]:
    return {one.label: one for one in parse_study(study.tables, Path("x.toml")).variants}


def test_every_command_becomes_one_method() -> None:
    assert len(COMMANDS) == 80
    for line in COMMANDS:
        (study,) = studies_from_text(line)
        assert len(parse(study)) == 1


@pytest.mark.parametrize(("script", "kind"), [("ZeroShot", "zero"), ("FewShot", "few")])
def test_the_scripts_are_the_papers_studies(script: str, kind: str) -> None:
    lines = [command(one) for one in ORIGINAL["commands"] if script in one["file"]]
    for original in studies_from_text("\n".join(lines)):
        data = original.name.removesuffix(f"_{kind}_shot")
        paper = open_study(f"shipped:paper_{kind}_shot_{data}")
        study = parse_study(original.tables, Path("x.toml"))
        assert (study.data, study.splits, study.shots) == (paper.data, paper.splits, paper.shots)
        mine, shipped = parse(original), {one.label: one for one in paper.variants}
        if data == "cars196" and kind == "few":  # a line of 2 shots has 100 iterations, not 1000
            assert mine.pop("s2sd").adapt.iterations == 100
            mine["s2sd"] = mine.pop("s2sd_CAR_Shots_5_ID_1_S2SD")
        assert set(mine) == set(shipped) - {"frozen"}
        for label, variant in mine.items():
            assert settings(variant) == settings(shipped[label]), (data, label)


def settings(variant: Variant) -> dict[str, Any]:
    options = dict(variant.options)
    if "loss_options" in options:
        options["loss_options"] = {"margin": 0.2} | dict(options["loss_options"])
    return {
        "method": variant.method, "options": options, "model": variant.model,
        "train": variant.train, "adapt": variant.adapt,
    }  # fmt: skip


@pytest.mark.parametrize("data", ["cub200", "cars196", "online_products"])
def test_the_studies_plan(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_miniature(data, tmp_path / data)
    (tmp_path / "all.sh").write_text(
        "#!/bin/sh\n" + " \\\n  ".join(["# x", ""]) + "\n".join(COMMANDS)
    )
    assert CliRunner().invoke(app, ["study", "from-command", "all.sh"]).exit_code == 0
    for file in sorted(tmp_path.glob(f"study_{data}_*.toml")):
        words = ["study", "run", str(file), "--data", data, "--out", "results", "--dry-run"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        assert "s2sd" in result.output


def test_every_flag_is_listed_with_its_default() -> None:
    flags = original_flags()
    assert len(ORIGINAL["flags"]) == 126
    scripts = {n: v for one in ORIGINAL["script_flags"].values() for n, v in one.items()}
    splits_only = {"--n_swaps", "--swaps_iter", "--load", "--super"}
    assert set(flags) == set(ORIGINAL["flags"]) | (set(scripts) - splits_only)
    for name, original in ORIGINAL["flags"].items():
        unused = original.get("unused", False)
        assert (flags[name].kind == "none") == unused, name
        if name not in ("--source_path", "--save_path", "--wandb_key"):  # machine-dependent
            default = original.get("default", False)
            listed = isinstance(flags[name].default, list)
            values = [str(one) for one in ast.literal_eval(default)] if listed else default
            assert flags[name].default == values, name


def test_the_page_lists_every_flag() -> None:
    page = (ROOT / "docs" / "from_the_original.md").read_text("utf-8")
    rows = {cells[1].strip(" `"): cells for line in page.splitlines()
            if line.startswith("| `--") and (cells := line.split("|"))}  # fmt: skip
    flags = original_flags()
    assert set(rows) == set(flags)
    for name, flag in flags.items():
        assert rows[name][4].strip().replace("\\|", "|") == flag.text, name


@pytest.mark.parametrize(
    ("words", "location"),
    [
        ("--los margin", "--los"),
        ("--optim sgd", "--optim"),
        ("--scheduler exp", "--scheduler"),
        ("--tau 50", "--tau"),
        ("--loss_margin_nu 0.1", "--loss_margin_nu"),
        ("--loss softmax", "--loss"),
        ("--arch vgg_frozen", "--arch"),
        ("--lr fast", "--lr"),
        ("--bs", "--bs"),
        ("--loss multisimilarity --loss_multisimilarity_neg_thresh 0.1", "thresh"),
    ],
)
def test_what_a_study_cannot_have_is_refused(words: str, location: str) -> None:
    with pytest.raises(OodmlError) as caught:
        studies_from_text(f"python ood_main.py {words}")
    assert location in str(caught.value)


@pytest.mark.parametrize(
    ("words", "method", "options"),
    [
        ("", "margin", {"beta": 1.2, "miner": "distance"}),
        ("--loss triplet --batch_mining semihard", "criterion",
         {"loss": "triplet", "miner": "semihard", "loss_options": {"margin": 0.2}}),
        ("--loss proxynca --loss_proxynca_sq_dist", "criterion", {"loss": "proxy_nca"}),
        ("--loss oproxy --loss_oproxy_mode nca", "criterion", {"loss": "proxy_anchor"}),
        ("--loss angular", "criterion", {"loss": "angular"}),
        ("--loss margin --loss_margin_beta_constant", "criterion", {"loss": "margin"}),
        ("--loss=arcface --loss_arcface_feature_scale=20", "arcface", {"scale": 20}),
    ],
)  # fmt: skip
def test_losses_become_methods(words: str, method: str, options: dict[str, Any]) -> None:
    (study,) = studies_from_text(f"CUDA_VISIBLE_DEVICES=0 python -u code/ood_main.py {words}")
    (variant,) = parse(study).values()
    assert variant.method == method
    assert dict(variant.options) == {**variant.options, **options}


def test_s2sd_with_multisimilarity_trains() -> None:
    (study,) = studies_from_text("python ood_main.py --loss s2sd")
    (variant,) = parse(study).values()
    method = catalog.get_class("methods", "s2sd")(Sizes(4, 8, 16), **variant.options)
    assert all(one.miner is None for one in method.losses)


def test_text_without_a_command_is_refused() -> None:
    with pytest.raises(OodmlError) as caught:
        studies_from_text("python train.py --lr 1")
    assert "ood_main.py" in caught.value.allowed
