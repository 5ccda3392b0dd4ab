"""A copy of the study folder, from which another machine continues."""

import shutil
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.study.folder.storage import mirrored
from oodml.study.launch import run_study
from tests.study.toy import execute, toy_study


def test_a_study_continues_from_its_copy(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    run_study(study, tmp_path / "one", execute=execute, device="cpu")
    executed: list[str] = []

    def interrupted(run: Any, context: Any, folder: Path) -> pd.DataFrame:
        if len(executed) == 5:
            raise KeyboardInterrupt
        executed.append(run.id)
        return execute(run, context, folder)

    storage = str(tmp_path / "storage")
    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "a", execute=interrupted, device="cpu", storage=storage)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "storage" / "runs" / "half").mkdir()
    (tmp_path / "storage" / "runs" / "half" / "rows.parquet").write_text("half")
    again: list[str] = []

    def counted(run: Any, context: Any, folder: Path) -> pd.DataFrame:
        again.append(run.id)
        return execute(run, context, folder)

    status = run_study(
        study, tmp_path / "b", execute=counted, device="cpu", storage=f"file://{storage}"
    )
    assert (len(status.done), len(again)) == (18, 13)
    assert not set(again) & set(executed)
    assert not (tmp_path / "b" / "runs" / "half").exists()
    one, b, copy = (
        pd.read_parquet(tmp_path / name / "results.parquet") for name in ("one", "b", "storage")
    )
    pd.testing.assert_frame_equal(one, b, check_exact=True)
    pd.testing.assert_frame_equal(one, copy, check_exact=True)


def test_removed_files_are_removed_from_the_copy(tmp_path: Path) -> None:
    folder, storage = tmp_path / "study", tmp_path / "a copy, 100%"
    for name in ("checkpoints/r/a.pt", "claims/r.json", "plan.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    with mirrored(folder, str(storage)):
        pass
    assert (storage / "checkpoints" / "r" / "a.pt").read_text() == "checkpoints/r/a.pt"
    assert not (storage / "claims").exists()
    shutil.rmtree(folder / "checkpoints")
    with mirrored(folder, str(storage)):
        assert (folder / "checkpoints" / "r" / "a.pt").exists()
        shutil.rmtree(folder / "checkpoints" / "r")
    assert not (storage / "checkpoints" / "r" / "a.pt").exists()


def test_a_bad_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as error, mirrored(tmp_path, "nowhere://bucket"):
        pass
    assert error.value.location == "--storage"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("through", ["url", "environment"])
def test_a_bucket_of_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str) -> None:
    moto = pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        urlopen(Request(f"http://{host}:{port}/studies", method="PUT")).close()
        url = f"s3://studies/{through}"
        if through == "url":
            url += f"?scheme=http&endpoint_override={host}:{port}"
        else:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        run = tmp_path / "first" / "runs" / "r" / "run.json"
        with mirrored(tmp_path / "first", url):
            run.parent.mkdir(parents=True)
            run.write_text("{}")
            (tmp_path / "first" / "plan.json").write_text("plan")
        with mirrored(tmp_path / "second", url):
            assert (tmp_path / "second" / "plan.json").read_text() == "plan"
            assert (tmp_path / "second" / "runs" / "r" / "run.json").read_text() == "{}"
            (tmp_path / "second" / "plan.json").unlink()
        with mirrored(tmp_path / "third", url):
            names = {path.name for path in (tmp_path / "third").rglob("*") if path.is_file()}
        assert names == {"run.json"}
    finally:
        server.stop()
