"""Ray and Slurm's client give the same rows as one process."""

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
@pytest.mark.parametrize(("executor", "module"), [("ray", "ray"), ("slurm:local", "submitit")])
def test_an_executor_gives_the_rows_of_one_process(
    executor: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(module)
    root = str(Path(__file__).parents[2])  # where the workers find the toy
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    study = toy_study(tmp_path)
    run_study(study, tmp_path / "one", execute=execute, device="cpu")
    out = tmp_path / "elsewhere"
    status = run_study(
        study, out, execute=execute_slowly, device="cpu", workers=2, executor=executor
    )
    assert (len(status.done), len(status.failed)) == (18, 0)
    if module != "ray":  # whose runs never see the study folder
        assert len(list((out / "calls").iterdir())) == 18
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "results.parquet"),
        pd.read_parquet(tmp_path / "one" / "results.parquet"),
        check_exact=True,
    )


def test_an_unknown_executor_is_refused(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    with pytest.raises(OodmlError) as error:
        run_study(study, tmp_path / "out", execute=execute, device="cpu", executor="slrm")
    assert error.value.given == "slrm"
    assert "slurm" in error.value.allowed


def test_an_executor_that_is_not_installed_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    study = toy_study(tmp_path)
    for executor in ("ray", "slurm"):
        with pytest.raises(OodmlError, match="pip install '(ray|submitit)"):
            run_study(study, tmp_path / "out", execute=execute, device="cpu", executor=executor)
    assert not (tmp_path / "out").exists()
