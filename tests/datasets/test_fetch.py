"""Downloads from a local server; archives with paths that lead outside the folder."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.datasets import _fetch
from oodml.datasets._fetch import Archive, unpack
from oodml.errors import OodmlError

from .trees import grow

NAMES = ["CUB_200_2011/images/001.A/1.jpg", "CUB_200_2011/images/002.B/1.jpg"]


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, at most `cut` bytes per response, with or without `ranges`."""

    content = b""
    cut: int | None = None
    ranges = True
    status = 200
    kind = "application/gzip"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        self.server.requested.append(requested)
        first = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        if self.server.status != 200 or (self.server.ranges and first >= len(self.server.content)):
            self.send_error(416 if self.server.status == 200 else self.server.status)
            return
        if not self.server.ranges:
            first = 0
        body = self.server.content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = grow(tmp_path / "published", NAMES)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        file.add(folder / "CUB_200_2011", "CUB_200_2011")
    with Server() as running:
        running.content = stream.getvalue()
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        archive = Archive(running.url, "cub.tgz", checksum(running), len(running.content))
        monkeypatch.setitem(_fetch.ARCHIVES, "cub200", archive)
        yield running
        running.shutdown()
        thread.join()


def checksum(server: Server) -> str:
    return hashlib.sha256(server.content).hexdigest()


def test_a_data_set_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        images = _fetch.fetch(
            "cub200", tmp_path / "data", lambda done, whole: seen.append((done, whole))
        )
        assert images.class_names == ("001.A", "002.B")
    assert server.requested == [None]
    assert seen[-1] == (len(server.content), len(server.content))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["CUB_200_2011"]


def test_a_lost_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cut = len(server.content) // 3 + 1
    assert len(_fetch.fetch("cub200", tmp_path / "data")) == 2
    assert server.requested == [None, f"bytes={server.cut}-", f"bytes={2 * server.cut}-"]


def test_an_interrupted_download_is_resumed_by_the_next_command(
    server: Server, tmp_path: Path
) -> None:
    def stop(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    server.cut = 100
    with pytest.raises(KeyboardInterrupt):
        _fetch.fetch("cub200", tmp_path / "data", stop)
    server.cut = None
    _fetch.fetch("cub200", tmp_path / "data")
    assert server.requested == [None, "bytes=100-"]


def test_a_server_without_ranges_sends_the_whole_file(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    part = tmp_path / "cub.tgz.part"
    part.write_bytes(b"something else")
    assert len(_fetch.fetch("cub200", tmp_path)) == 2


def test_a_file_with_a_wrong_checksum_is_removed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _fetch.ARCHIVES["cub200"]._replace(sha256="0" * 64)
    monkeypatch.setitem(_fetch.ARCHIVES, "cub200", other)
    with pytest.raises(OodmlError, match="SHA-256") as error:
        _fetch.fetch("cub200", tmp_path / "data")
    assert error.value.given == checksum(server)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_web_page_is_refused(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(OodmlError, match="web page"):
        _fetch.fetch("cub200", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_archive_must_have_its_size(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _fetch.ARCHIVES["cub200"]._replace(size=1150585339)
    monkeypatch.setitem(_fetch.ARCHIVES, "cub200", other)
    with pytest.raises(OodmlError, match="1150585339"):
        _fetch.fetch("cub200", tmp_path / "data")


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (503, _fetch.ATTEMPTS)])
def test_the_error_of_a_failing_server_has_its_status(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, tries: int
) -> None:
    monkeypatch.setattr(_fetch, "WAIT_SECONDS", 0)
    server.status = status
    with pytest.raises(OodmlError, match=str(status)):
        _fetch.fetch("cub200", tmp_path / "data")
    assert len(server.requested) == tries


@pytest.mark.parametrize(
    ("name", "word"), [("cars196", "Kaggle"), ("inshop", "agreement"), ("cub", "'cub200'")]
)
def test_errors_say_how_to_get_the_data(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(OodmlError, match=word):
        _fetch.fetch(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def tar_with(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("good.txt"), io.BytesIO())
        file.addfile(member, io.BytesIO())
    return path


@pytest.mark.parametrize("kind", ["path", "absolute", "link", "hard link", "device"])
def test_tar_members_outside_the_folder_are_refused(tmp_path: Path, kind: str) -> None:
    member = tarfile.TarInfo("x")
    if kind == "path":
        member.name = "../outside"
    elif kind == "absolute":
        member.name = f"{tmp_path}/target/../outside"
    elif kind == "device":
        member.type = tarfile.CHRTYPE
    else:
        member.type = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE
        member.linkname = "../../outside"
    (tmp_path / "target").mkdir()
    with pytest.raises(OodmlError, match=r"a\.tar"):
        unpack(tar_with(tmp_path / "a.tar", member), tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside", "..\\outside"])
def test_zip_members_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good.txt", "x")
        file.writestr(name, "x")
    with pytest.raises(OodmlError, match="outside"):
        unpack(tmp_path / "a.zip", tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    member = zipfile.ZipInfo("x")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc")
    with pytest.raises(OodmlError, match="link"):
        unpack(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize("suffix", ["tar.gz", "zip", "txt"])
def test_a_damaged_archive_leaves_no_files(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"a.{suffix}"
    folder = grow(tmp_path / "published", NAMES)
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.write(folder / NAMES[0], "x.jpg")
        damaged = bytearray(archive.read_bytes())
        damaged[60] ^= 255
        archive.write_bytes(damaged)
    elif suffix == "tar.gz":
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, "x")
        archive.write_bytes(archive.read_bytes()[:-200])
    else:
        archive.write_text("<html>not found</html>")
    (tmp_path / "target").mkdir()
    with pytest.raises(OodmlError, match=archive.name):
        unpack(archive, tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_the_command_prints_the_number_of_images(server: Server, tmp_path: Path) -> None:
    command = ["data", "fetch", "cub200", "--out", str(tmp_path / "data")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert "2 images of 2 classes" in result.output
