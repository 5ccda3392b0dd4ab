"""Downloads from a server on loopback; archives that try to leave their folder."""

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
from oodml.datasets._unpack import unpack
from oodml.errors import OodmlError

from .trees import grow

NAMES = ["CUB_200_2011/images/001.A/1.jpg", "CUB_200_2011/images/002.B/1.jpg"]


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `cut` bytes an answer at most, `ranges` or not, with `status`."""

    content = b""
    cut: int | None = None
    ranges = True
    status = 200
    kind = "application/gzip"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
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
def server(tmp_path: Path) -> Iterator[Server]:
    folder = grow(tmp_path / "published", NAMES)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        file.add(folder / "CUB_200_2011", "CUB_200_2011")
    with Server() as running:
        running.content = stream.getvalue()
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def checksum(server: Server) -> str:
    return hashlib.sha256(server.content).hexdigest()


def test_a_data_set_is_brought_opened_and_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        images = _fetch.fetch(
            "cub200",
            tmp_path / "data",
            server.url,
            checksum(server),
            lambda done, whole: seen.append((done, whole)),
        )
        assert images.class_names == ("001.A", "002.B")
    assert server.asked == [None]
    assert seen[-1] == (len(server.content), len(server.content))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["CUB_200_2011"]


def test_a_connection_that_ends_early_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cut = len(server.content) // 3 + 1
    assert len(_fetch.fetch("cub200", tmp_path / "data", server.url, checksum(server))) == 2
    assert server.asked == [None, f"bytes={server.cut}-", f"bytes={2 * server.cut}-"]


def test_a_stopped_download_goes_on_at_the_next_command(server: Server, tmp_path: Path) -> None:
    def stop(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    server.cut = 100
    with pytest.raises(KeyboardInterrupt):
        _fetch.fetch("cub200", tmp_path / "data", server.url, checksum(server), stop)
    server.cut = None
    _fetch.fetch("cub200", tmp_path / "data", server.url, checksum(server))
    assert server.asked == [None, "bytes=100-"]


def test_a_server_without_ranges_is_asked_for_all(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    part = tmp_path / f"cub200-{checksum(server)[:12]}.archive.part"
    part.write_bytes(b"something else")
    assert len(_fetch.fetch("cub200", tmp_path, server.url, checksum(server))) == 2


def test_another_file_is_removed_and_not_unpacked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match=f"SHA-256 is {checksum(server)}, not 0000"):
        _fetch.fetch("cub200", tmp_path / "data", server.url, "0" * 64)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_web_page_in_place_of_the_archive_is_refused(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(OodmlError, match="gives a web page, not an archive"):
        _fetch.fetch("cub200", tmp_path / "data", server.url, checksum(server))
    assert list((tmp_path / "data").iterdir()) == []


def test_a_known_archive_at_another_address_keeps_its_size_and_checksum(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(OodmlError, match=r"gives a file of \d+ bytes; the archive has 1150585339"):
        _fetch.fetch("cub200", tmp_path / "data", server.url)


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (503, _fetch.ATTEMPTS)])
def test_a_server_that_refuses_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, tries: int
) -> None:
    monkeypatch.setattr(_fetch, "WAIT", 0)
    server.status = status
    with pytest.raises(OodmlError, match=f"archive: HTTP Error {status}"):
        _fetch.fetch("cub200", tmp_path / "data", server.url, checksum(server))
    assert len(server.asked) == tries


@pytest.mark.parametrize(
    ("name", "url", "sha256", "message"),
    [
        ("cars196", None, None, "can't be fetched: the authors' address is gone"),
        ("inshop", None, None, "can't be fetched: the authors ask for an agreement"),
        ("cars196", "http://x/y", None, "--url needs --sha256"),
        ("cub200", None, "0" * 64, "give --url too"),
        ("cub200", "file:///etc/passwd", "0" * 64, "must start with http"),
        ("cub200", "http://x/y", "abc", "must be 64 hexadecimal digits; given 'abc'"),
        ("cub", None, None, "unknown data set to fetch 'cub'. Did you mean 'cub200'"),
    ],
)
def test_what_cannot_be_fetched_says_what_to_do(
    tmp_path: Path, name: str, url: str | None, sha256: str | None, message: str
) -> None:
    with pytest.raises(OodmlError, match=message):
        _fetch.fetch(name, tmp_path, url, sha256)
    assert list(tmp_path.iterdir()) == []


def tar_with(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("good.txt"), io.BytesIO())
        file.addfile(member, io.BytesIO())
    return path


@pytest.mark.parametrize("kind", ["path", "absolute", "link", "hard link", "device"])
def test_tar_members_that_lead_outside_are_refused(tmp_path: Path, kind: str) -> None:
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
    with pytest.raises(OodmlError, match="can't be unpacked"):
        unpack(tar_with(tmp_path / "a.tar", member), tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside", "..\\outside"])
def test_zip_members_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good.txt", "x")
        file.writestr(name, "x")
    with pytest.raises(OodmlError, match="leads outside the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    member = zipfile.ZipInfo("x")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc")
    with pytest.raises(OodmlError, match="'x' is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize("suffix", ["tar.gz", "zip", "txt"])
def test_a_broken_archive_leaves_nothing(tmp_path: Path, suffix: str) -> None:
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
    with pytest.raises(OodmlError, match=r"can't be unpacked|neither a tar nor a zip"):
        unpack(archive, tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_the_command_says_what_it_brought(server: Server, tmp_path: Path) -> None:
    command = ["data", "fetch", "cub200", "--root", str(tmp_path / "data")]
    result = CliRunner().invoke(app, [*command, "--url", server.url, "--sha256", checksum(server)])
    assert result.exit_code == 0
    assert "cub200: 2 images of 2 classes" in result.output
