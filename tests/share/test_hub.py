"""The hub, as a stand-in on loopback that speaks its HTTP interface, and offline."""

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.hub import parse_address
from oodml.model import Embedder, HeadSettings, LinearHead, load_model
from oodml.shift.files import read_splits, write_splits
from tests.share.studies import planned_study

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory: creating, committing, listing, and downloading files."""

    repositories: dict[str, dict[str, bytes]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path.endswith("/repos/create"):
            given = json.loads(body)
            kind = "datasets/" if given.get("type") == "dataset" else ""
            name = f"ada/{given['name']}"
            self.answer({"url": f"https://huggingface.co/{kind}{name}", "name": name})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for one in files]  # fmt: skip
            self.answer({"files": modes})
        else:
            name = "/".join(self.path.split("/")[3:5])
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            contents = {one["path"]: base64.b64decode(one["content"]) for one in files}
            self.repositories[name] = contents
            url = f"https://huggingface.co/{name}/commit/{COMMIT}"
            self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "api":
            files = self.repositories.get("/".join(parts[2:4]))
            if files is None:
                return self.answer({"error": "Repository not found"}, 404)
            if len(parts) > 4 and parts[4] == "tree":
                return self.answer([{"type": "file", "path": name, "size": len(data),
                                     "oid": "0" * 40} for name, data in files.items()])  # fmt: skip
            siblings = [{"rfilename": name} for name in files]
            return self.answer({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
        parts = parts[1:] if parts[0] == "datasets" else parts
        content = self.repositories["/".join(parts[:2])]["/".join(parts[4:])]
        self.reply(content, "application/octet-stream")

    do_HEAD = do_GET

    def answer(self, value: Any, status: int = 200) -> None:
        self.reply(json.dumps(value).encode(), "application/json", status)

    def reply(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, dict[str, bytes]]]:
    repositories: dict[str, dict[str, bytes]] = {}
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("One", (Hub,), {"repositories": repositories})
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    yield repositories
    server.shutdown()
    server.server_close()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A study folder with one model per run."""
    folder = tmp_path / "results"
    model = HeadSettings(backbone="pixels", image_size=8, dim=4)
    planned_study(folder, {"margin": 0.7}, model=model.model_dump(mode="json"), host="ada-laptop")
    torch.manual_seed(0)
    for run in (folder / "runs").iterdir():
        Embedder(model, LinearHead(768, 4)).save(run)
    return folder


def run(*words: str) -> str:
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_model_is_pushed_and_loaded_by_its_address(
    hub: dict[str, dict[str, bytes]], results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("push", f"{results}:margin", "ada/birds", "--out", str(tmp_path / "dry"))
    assert not hub
    run("push", f"{results}:margin", "ada/birds")
    dry = {file.name: file.read_bytes() for file in (tmp_path / "dry").iterdir()}
    assert hub["ada/birds"] == dry
    assert set(dry) == {"model.json", "model.safetensors", "README.md", "run.json"}
    assert b"ada-laptop" not in dry["run.json"]
    for fact in ("pixels", "recall@1", "| 8 | 45.0 |", "library_name"):
        assert fact in dry["README.md"].decode()
    images = torch.zeros(2, 3, 8, 8)
    expected = load_model(results / "runs" / "margin-0-0")(images)
    assert torch.equal(load_model("hf://ada/birds")(images), expected)
    run("pull", "ada/birds", "--out", str(tmp_path / "pulled"))
    assert torch.equal(load_model(tmp_path / "pulled")(images), expected)
    hub.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(load_model("hf://ada/birds")(images), expected)  # from the local cache


def test_a_fitted_model_is_pushed_with_its_own_card(
    hub: dict[str, dict[str, bytes]], results: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(results / "runs" / "margin-0-0", model)
    (model / "README.md").write_text("the card of the model")
    run("push", str(model), "ada/fitted")
    assert hub["ada/fitted"]["README.md"] == b"the card of the model"
    images = torch.zeros(2, 3, 8, 8)
    assert torch.equal(load_model("hf://ada/fitted")(images), load_model(model)(images))


def test_splits_are_pushed_with_croissant_metadata_and_read_by_their_address(
    hub: dict[str, dict[str, bytes]], results: Path, tmp_path: Path
) -> None:
    run("push", str(results / "splits.json"), "ada/letters")
    files = hub["ada/letters"]
    assert set(files) == {"splits.json", "README.md", "croissant.json"}
    metadata = json.loads(files["croissant.json"])
    assert metadata["conformsTo"].endswith("croissant/1.0")
    (file,) = metadata["distribution"]
    assert file["sha256"] == hashlib.sha256(files["splits.json"]).hexdigest()
    assert read_splits("hf://ada/letters") == read_splits(results / "splits.json")
    write_splits(read_splits("hf://ada/letters/splits.json"), tmp_path / "again.json")


def test_what_is_not_on_the_hub_is_an_error(hub: dict[str, dict[str, bytes]]) -> None:
    with pytest.raises(OodmlError) as caught:
        load_model("hf://ada/nothing")
    assert caught.value.location == "ada/nothing"


@pytest.mark.parametrize("text", ["hf://ada", "hf://a/../b", "hf://", "hf://a/b c"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(OodmlError):
        parse_address(text)


def test_the_parts_of_an_address() -> None:
    assert parse_address("hf://ada/birds@v1/x.json") == ("ada/birds", "v1", "x.json")
    assert parse_address(Path("hf://ada/birds")) == ("ada/birds", None, "")
    assert parse_address("ada/birds").repository == "ada/birds"


def test_a_method_that_does_not_exist_is_refused(results: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["push", f"{results}:margn", "a/b", "--out", str(tmp_path)])
    assert isinstance(result.exception, OodmlError)
