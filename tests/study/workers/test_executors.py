"""The same rows from Ray and from Slurm's client as from one process."""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.study.launch import run_study
from tests.study.toy import execute, execute_slowly, toy_study


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("on", "module"), [("ray", "ray"), ("slurm:local", "submitit")])
def test_an_engine_gives_the_rows_of_one_process(
    on: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(module)
    root = str(Path(__file__).parents[2])  # where the workers find the toy
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    study = toy_study(tmp_path)
    run_study(study, tmp_path / "one", execute=execute, device="cpu")
    out = tmp_path / "engine"
    status = run_study(study, out, execute=execute_slowly, device="cpu", workers=2, on=on)
    assert (len(status.done), len(status.failed)) == (18, 0)
    assert len(list((out / "calls").iterdir())) == 18
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "results.parquet"),
        pd.read_parquet(tmp_path / "one" / "results.parquet"),
        check_exact=True,
    )


def test_an_unknown_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="unknown place to work 'slrm'.* 'slurm'"):
        run_study(toy_study(tmp_path), tmp_path / "out", execute=execute, device="cpu", on="slrm")


def test_an_engine_that_is_not_installed_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    study = toy_study(tmp_path)
    for on, extra in (("ray", "ray"), ("slurm", "slurm")):
        with pytest.raises(OodmlError, match=rf"pip install 'oodml\[{extra}\]'"):
            run_study(study, tmp_path / "out", execute=execute, device="cpu", on=on)
    assert not (tmp_path / "out").exists()
