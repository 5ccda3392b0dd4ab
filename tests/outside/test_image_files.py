"""Files of other kinds, odd names, and folders that cannot be used, where images are expected."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from oodml import files
from oodml.cli import app
from oodml.datasets import is_import_path, open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.images.fingerprint import fingerprint
from oodml.images.pixel_cache import resized_images
from oodml.images.transforms import RECIPES, recipe, train_view
from oodml.images.transforms import test_view as make_test_view
from oodml.study.spec.study_file import read_study
from oodml.vectors import VectorSet

from ..datasets.trees import grow

NAMES = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def check(root: Path) -> dict[str, object]:
    result = CliRunner().invoke(app, ["data", "check", str(root), "--json"])
    report: dict[str, object] = json.loads(result.stdout)
    return report


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 56 40\n%%EndComments\nshowpage\n%%EOF\n",
        b"<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_other_content_is_corrupt_and_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    root = grow(tmp_path / "data", NAMES)
    (root / "a" / "9.jpg").write_bytes(content)
    assert list(check(root)["corrupt"]) == ["a/9.jpg"]  # type: ignore[call-overload]
    assert open_images(root, skip_corrupt=True).left_out == ("a/9.jpg",)


def test_a_damaged_avif_file_is_corrupt(tmp_path: Path) -> None:
    root = grow(tmp_path / "data", [*NAMES, "b/whole.avif"])
    whole = (root / "b/whole.avif").read_bytes()
    for seed in range(20):
        data = bytearray(whole)
        for place in np.random.default_rng(seed).integers(0, len(data), 8):
            data[place] = seed
        (root / f"a/{seed:02d}.jpg").write_bytes(data)
    assert len(open_images(root, skip_corrupt=True)) >= 5


def test_a_pipe_is_skipped_and_never_opened(tmp_path: Path) -> None:
    root = grow(tmp_path / "data", NAMES)
    os.mkfifo(root / "a" / "9.jpg")
    assert check(root)["skipped"] == {".jpg": 1}
    (tmp_path / "t.csv").write_text("path,class\ndata/a/0.png,a\ndata/a/9.jpg,b\n")
    images = open_images(tmp_path / "t.csv")
    with pytest.raises(OodmlError, match="regular file"):
        fingerprint(images)
    assert len(open_images(tmp_path / "t.csv", skip_corrupt=True)) == 1


def test_every_readable_suffix_is_read_and_others_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = grow(tmp_path / "data", NAMES)
    for suffix in ("jfif", "jpe", "avif", "gif", "jp2", "ppm", "pgm", "ico", "dib", "apng"):
        image = Image.fromarray(np.full((8, 8), 100, np.uint8))
        image.save(root / "b" / f"image.{suffix}")
    assert len(open_images(root)) == 14
    assert caplog.messages == []
    for name in ("a/1.heic", "a/2.HEIC", "notes.txt", "a/LICENSE"):
        (root / name).write_text("x")
    assert dict(open_images(root).skipped) == {".heic": 2, ".txt": 1, "no suffix": 1}
    assert ".heic" in caplog.text
    report = check(root)
    assert (report["images"], report["skipped"]) == (14, {".heic": 2, ".txt": 1, "no suffix": 1})


def test_a_folder_with_unreadable_formats_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.heic").write_text("x")
    with pytest.raises(OodmlError, match=r"\.heic"):
        open_images(tmp_path)


def test_line_breaks_and_tabs_in_names(tmp_path: Path) -> None:
    root = grow(tmp_path / "data", ["a/0\n1.png", "a\tb/0.png", "c\\n/0.png", "c\n/0.png"])
    images = open_images(root)
    first, second = (embed(open_images(root), "pixels") for _ in range(2))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.ids.tolist() == images.ids.tolist()
    assert second.ids.tolist() == images.ids.tolist()


def test_fingerprints_separate_names(tmp_path: Path) -> None:
    """An id that contains a line break and a tab is not taken for two rows."""
    root = grow(tmp_path, ["a\tx\nb/0.png"])
    whole = open_images(grow(tmp_path / "2", [*NAMES]))
    assert fingerprint(whole) != fingerprint(whole.select(np.arange(3)))
    from oodml.images.image_set import ImageSet

    pixels = np.zeros((1, 2, 2), np.uint8)
    odd = ImageSet("x", np.array(["a\tb\nc"]), np.array(["d"]), pixels=pixels)
    other = ImageSet("x", np.array(["a"]), np.array(["b\nc\td"]), pixels=pixels)
    assert fingerprint(odd) != fingerprint(other)
    assert root.exists()


@pytest.mark.parametrize("name", ["2024:03", "photos:v2"])
def test_a_colon_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    grow(tmp_path / name, NAMES)
    assert open_images(name).name == name
    assert not is_import_path(name)
    monkeypatch.syspath_prepend(tmp_path)
    grow(tmp_path / "photos", NAMES)  # for Python, a namespace package
    with pytest.raises(OodmlError, match="no such file"):
        open_images(f"{name}4")


def test_similar_names_are_suggested(tmp_path: Path) -> None:
    grow(tmp_path / "holiday photos", NAMES)
    with pytest.raises(OodmlError, match="holiday photos'") as error:
        open_images(tmp_path / "holiday photo")
    assert "glyphs" in error.value.allowed
    with pytest.raises(OodmlError, match="nowhere"):
        open_images(tmp_path / "nowhere" / "photos")


def test_another_unicode_normalization_gets_a_hint(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    grow(tmp_path, [f"{decomposed}/0.png", "b/0.png"])
    (tmp_path / "t.csv").write_text(f"path,class\n{composed}/0.png,a\nb/0.png,b\n", "utf-8")
    with pytest.raises(OodmlError, match="NFC"):
        open_images(tmp_path / "t.csv")
    with pytest.raises(OodmlError, match="NFC"):
        open_images(tmp_path).subset([composed])


def test_a_locale_without_utf8(tmp_path: Path) -> None:
    root = grow(tmp_path / "Säle", ["Café/0.png", "b/0.png"])
    code = (
        "import sys; from oodml.datasets import open_images; from oodml.images.fingerprint import "
        "fingerprint; images = open_images(sys.argv[1]); images.read(0); "
        "print(ascii([images.name, *images.class_names]), fingerprint(images))"
    )
    printed = []
    for mode in ("0", "1"):
        variables = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": mode}
        command = [sys.executable, "-c", code, str(root)]
        environment = os.environ | variables
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        printed.append(ran.stdout)
    assert printed[0] == printed[1]
    assert "Caf\\xe9" in printed[0]


@pytest.mark.parametrize("kind", ["file", "no home"])
def test_without_a_cache_everything_works_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    images = open_images(grow(tmp_path / "data", NAMES))
    expected = embed(images, "pixels").vectors
    monkeypatch.setattr("oodml.files._unwritable", set())
    if kind == "file":
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("OODML_CACHE", str(tmp_path / "file" / "cache"))
    else:
        monkeypatch.delenv("OODML_CACHE")
        monkeypatch.setattr(Path, "home", raise_runtime_error)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images = open_images(tmp_path / "data")
    fingerprint(images)
    small = resized_images(images, 8)
    assert np.asarray(small.input_image(0)).shape[0] == 8
    warnings = [message for message in caplog.messages if "OODML_CACHE" in message]
    assert len(warnings) == (1 if kind == "file" else 0)
    assert (small.cache is None) is (kind == "file")
    np.testing.assert_array_equal(embed(images, "pixels").vectors, expected)
    assert files.cache_folder().parent.exists()


def raise_runtime_error() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("extent", [(1, 4000), (4000, 1), (3, 90_000)])
def test_very_thin_images_need_little_memory(name: str, extent: tuple[int, int]) -> None:
    """At a short side of 256 pixels, such an image would have 260 million pixels or more."""
    for image in (Image.new("RGB", extent, "red"), np.full((*extent[::-1], 3), 200, np.uint8)):
        size = round(224 * recipe(name).enlarge)
        assert make_test_view(image, 224, recipe(name)).shape == (size, size, 3)
        assert train_view(image, 224, recipe(name), 0).shape == (size, size, 3)


def test_the_background_of_a_study(tmp_path: Path) -> None:
    root = grow(tmp_path / "photos", NAMES)
    Image.new("RGBA", (8, 8)).save(root / "a/0.png")
    study = tmp_path / "study.toml"
    text = 'data = {{ name = "photos", background = "{}" }}\nmethods = ["frozen"]\n'
    study.write_text(text.format("black"))
    source = read_study(study).data
    images = open_images(source.name, **source.options)
    assert np.asarray(images.read(0)).max() == 0
    study.write_text(text.format("grey"))
    with pytest.raises(OodmlError, match="background") as error:
        read_study(study)
    assert error.value.given == "grey"


def test_the_report_lists_unusual_images(tmp_path: Path) -> None:
    root = grow(tmp_path / "data", NAMES)
    rgba = np.random.default_rng(0).integers(0, 255, (8, 6, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(root / "a/alpha.png")
    exif = Image.Exif()
    exif[0x112] = 6
    rgb = Image.fromarray(rgba[..., :3])
    rgb.save(root / "a/rotated.jpg", exif=exif)
    rgb.convert("L").save(root / "a/gray.png")
    rgb.convert("CMYK").save(root / "a/cmyk.jpg")
    Image.fromarray(rgba[..., 0].astype(np.uint16) * 255).save(root / "a/deep.png")
    Image.fromarray(rgba[..., 0].astype(np.float32)).save(root / "a/float.tif")
    rgb.save(root / "a/animated.gif", save_all=True, append_images=[Image.new("RGB", (6, 8))])
    traits = check(root)["traits"]
    assert traits == {
        "alpha": ["a/alpha.png"],
        "rotated": ["a/rotated.jpg"],
        "gray": ["a/deep.png", "a/float.tif", "a/gray.png"],
        "CMYK": ["a/cmyk.jpg"],
        "profile": [],
        "16-bit": ["a/deep.png"],
        "float": ["a/float.tif"],
        "animated": ["a/animated.gif"],
    }
    output = CliRunner().invoke(app, ["data", "check", str(root)], env={"COLUMNS": "200"}).output
    assert "a/alpha.png; composited on white" in output
    assert output.rstrip().splitlines()[-1].startswith("Next: oodml study init")


def test_cars196_as_published(tmp_path: Path) -> None:
    names = [f"car_ims/{number:06d}.jpg" for number in (2, 1, 3)]
    grow(tmp_path / "cars196", names)
    kind = [("relative_im_path", object), ("class", object), ("test", object)]
    rows = np.array([(names[0], 2, 0), (names[1], 1, 1), (names[2], 2, 0)], dtype=kind)
    classes = np.array(["Acura RL Sedan 2012", "BMW M3 Coupe 2012"], dtype=object)
    path = tmp_path / "cars196" / "cars_annos.mat"
    savemat(path, {"annotations": rows, "class_names": classes})
    images = open_images("cars196", root=tmp_path)
    assert images.ids.tolist() == sorted(names)
    assert images.classes.tolist() == [classes[0], classes[1], classes[1]]
    assert images.read(0).size == (12, 10)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OodmlError, match="cars_annos"):
        open_images("cars196", root=tmp_path)


def devkit(root: Path, test_labels: str) -> Path:
    """The separate archives of CARS196 with three images of two classes."""
    grow(root, ["cars_train/1.jpg", "cars_train/2.jpg", "cars_test/1.jpg"])
    (root / "devkit").mkdir()
    names = np.array(["Audi A", "BMW B"], dtype=object)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    kind = [("class", "f8"), ("fname", object)]
    train = np.array([(1, "1.jpg"), (2, "2.jpg")], dtype=kind)
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": train})
    tested = np.array([(2, "1.jpg")], dtype=kind)
    savemat(root / test_labels, {"annotations": tested})
    return root


@pytest.mark.parametrize("place", ["", "devkit/"])
def test_the_devkit_of_cars196(tmp_path: Path, place: str) -> None:
    root = devkit(tmp_path / "cars", f"{place}cars_test_annos_withlabels.mat")
    images = open_images("cars196", root=root)
    assert dict(zip(images.ids.tolist(), images.classes.tolist(), strict=True)) == {
        "cars_train/1.jpg": "Audi A",
        "cars_train/2.jpg": "BMW B",
        "cars_test/1.jpg": "BMW B",
    }
    images.read(0)
    (root / f"{place}cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(OodmlError, match="withlabels"):
        open_images("cars196", root=root)


def test_rows_of_a_table_without_a_label_are_left_out_on_request(tmp_path: Path) -> None:
    grow(tmp_path, NAMES)
    table = tmp_path / "table.csv"
    table.write_text("path,class\na/0.png,x\na/1.png,x\nb/0.png,y\nb/1.png,\n")
    refused = CliRunner().invoke(app, ["data", "check", str(table)])
    assert isinstance(refused.exception, OodmlError)
    command = ["data", "check", str(table), "--skip-unlabeled", "--json"]
    report = json.loads(CliRunner().invoke(app, command).stdout)
    assert report["images"] == 3
    assert report["skipped"] == {"rows without a label": 1}
    out = tmp_path / "v.npz"
    command = ["embed", "--data", str(table), "--model", "pixels", "--out", str(out)]
    result = CliRunner().invoke(app, [*command, "--skip-unlabeled"])
    assert "1" in result.stderr
    assert len(np.load(out)["vectors"]) == 3


@pytest.mark.parametrize("kind", ["folder", "table", "vectors"])
def test_classes_that_differ_in_unicode_normalization_are_refused(
    tmp_path: Path, kind: str
) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    grow(tmp_path / "data", [f"{name}/{i}.png" for name in names for i in range(2)])
    path = tmp_path / "data"
    if kind == "table":
        path = tmp_path / "data" / "table.csv"
        rows = [f"{names[0]}/{i}.png,{name}" for i, name in enumerate(names)]
        path.write_text("\n".join(["path,class", *rows]), encoding="utf-8")
    if kind == "vectors":
        path = tmp_path / "v.npz"
        np.savez(path, vectors=np.eye(4), classes=np.repeat(names, 2))
    with pytest.raises(OodmlError) as raised:
        VectorSet.load(path) if kind == "vectors" else open_images(path)
    assert raised.value.given in names
    assert str(path) in str(raised.value.location)


@pytest.mark.parametrize("command", ["embed", "check", "adapt", "shift"])
def test_the_background_of_a_command(tmp_path: Path, command: str) -> None:
    for name in NAMES:
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shade = 40 * NAMES.index(name)
        Image.new("RGBA", (32, 32), (shade, 0, 0, 100)).save(file)
    data, out = str(tmp_path / "data"), tmp_path / "v.npz"
    words = {
        "embed": ["embed", "--data", data, "--model", "pixels", "--out", str(out)],
        "check": ["data", "check", data, "--json"],
        "adapt": ["adapt", "--model", "pixels", "--support", data, "--queries", data],
        "shift": ["shift", data, data, "--backbone", "pixels", "--resamples", "0", "--json"],
    }[command]
    refused = CliRunner().invoke(app, [*words, "--background", "blue"])
    assert isinstance(refused.exception, OodmlError)
    assert refused.exception.location == "--background"
    if command == "adapt":
        return
    result = CliRunner().invoke(app, [*words, "--background", "#000000"])
    assert result.exit_code == 0
    if command == "check":
        assert json.loads(result.stdout)["background"] == "#000000"
    if command == "embed":
        black = embed(open_images(data, background="black"), "pixels").vectors
        np.testing.assert_allclose(np.load(out)["vectors"], black)


def test_columns_of_image_tables_in_any_case(tmp_path: Path) -> None:
    grow(tmp_path, NAMES)
    table = tmp_path / "table.csv"
    table.write_text(" Path ,LABEL\n" + "\n".join(f"{name},{name[0]}" for name in NAMES))
    assert open_images(table).class_names == ("a", "b")
    table.write_text(
        "path,class\n" + "\n".join(f"{n},{n[0]}{' ' * i}" for i, n in enumerate(NAMES))
    )
    with pytest.raises(OodmlError) as raised:
        open_images(table)
    assert raised.value.location == str(table)


def test_effort_without_effect_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.eye(4), classes=[0, 0, 1, 1])
    words = ["index", str(tmp_path / "v.npz"), "--out", str(tmp_path / "i.faiss"), "--effort", "3"]
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, OodmlError)
    assert refused.location == "--effort"
