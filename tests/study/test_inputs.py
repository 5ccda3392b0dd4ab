"""Images of a study: corrupt ones, and pixels that are kept."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.files import cache_folder
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import list_pixel_caches
from oodml.report.folder import read_folder
from oodml.results.plan import read_plan, read_run
from oodml.study.folder.status import format_status, read_status
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from tests.images.samples import squares, write_folder

STUDY = """
data = {{ name = "photos", skip_corrupt = {skip} }}
methods = ["margin"]
[splits]
n_splits = 2
backbone = "pixels"
[model]
backbone = "small"
mode = "finetune"
augmentation = "gentle"
image_size = {size}
input_cache = {cache}
dim = 8
[train]
epochs = 1
batch_size = 8
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `photos` of 8 classes with 6 images of 24x24 pixels, long unchanged."""
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("oodml.images.fingerprint.SETTLE_SECONDS", -1e6)
    write_folder(squares(8, 6), tmp_path / "photos")
    return tmp_path


def study(folder: Path, skip: str = "false", cache: str = '"auto"', size: int = 16) -> Path:
    file = folder / "study.toml"
    file.write_text(STUDY.format(skip=skip, cache=cache, size=size))
    return file


def broken(folder: Path, *ids: str) -> None:
    for name in ids:
        path = folder / "photos" / name
        path.write_bytes(path.read_bytes()[:60])


def test_a_corrupt_image_stops_a_study_before_it_starts(folder: Path) -> None:
    broken(folder, "c00/001.png", "c03/019.png")
    with pytest.raises(OodmlError, match="skip_corrupt") as e:
        run_study(read_study(study(folder)), folder / "out")
    assert "c00/001.png" in str(e.value)
    assert "c03/019.png" in str(e.value)
    assert not (folder / "out" / "plan.json").exists()
    assert not (folder / "out" / "splits.json").exists()


def test_corrupt_images_are_left_out_counted_and_named(folder: Path) -> None:
    broken(folder, "c00/001.png", "c03/019.png")
    status = run_study(read_study(study(folder, skip="true")), folder / "out")
    assert status.left_out == ("c00/001.png", "c03/019.png")
    assert "left out: 2\n  c00/001.png\n  c03/019.png" in format_status(status)
    assert "18 pixels" in format_status(status)
    assert not status.failed
    assert read_plan(folder / "out" / "plan.json").left_out == status.left_out
    notes = read_folder(folder / "out").notes
    assert [note for note in notes if "2 corrupt" in note and "c00/001.png, c03/019.png" in note]
    assert [note for note in notes if "18 pixels" in note]


def test_a_study_without_corrupt_images_says_nothing_of_them(folder: Path) -> None:
    run_study(read_study(study(folder)), folder / "out")
    assert "corrupt" not in format_status(read_status(folder / "out"))


def results(folder: Path, cache: str, size: int) -> list[bytes]:
    """Weights of each run, and the resolved size that it states."""
    out = folder / f"out-{cache}"
    status = run_study(read_study(study(folder, cache=cache, size=size)), out)
    assert not status.failed
    runs = sorted(status.done, key=lambda run: run.split)
    assert {read_run(out / "runs" / run.id / "run.json").input_short for run in runs} == {
        {'"off"': None, '"auto"': 27, "18": 18}[cache]
    }
    return [(out / "runs" / run.id / "model.safetensors").read_bytes() for run in runs]


def test_training_on_images_of_the_kept_size_or_less_is_the_same_to_the_bit(folder: Path) -> None:
    exact = results(folder, '"off"', 24)
    assert not (cache_folder() / "pixels").exists()
    assert results(folder, '"auto"', 24) == exact
    assert [name for name, _ in list_pixel_caches()] == ["photos: 48 images, short side 27"]
    assert results(folder, "18", 24) != exact


def test_pixels_are_decoded_once_for_all_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    read = ImageSet.read

    def noted(self: ImageSet, index: int, at_least: int | None = None) -> object:
        rows.append(index)
        return read(self, index, at_least)

    monkeypatch.setattr(ImageSet, "read", noted)
    run_study(read_study(study(folder)), folder / "out")
    assert len(rows) == 48 + 48  # for the pixels, and for the features that shift is measured on


@pytest.mark.parametrize("cache", ["8", '"on"', "3.5", "true"])
def test_a_wrong_input_cache_is_refused(folder: Path, cache: str) -> None:
    with pytest.raises(OodmlError, match="model.input_cache"):
        read_study(study(folder, cache=cache))


def test_sizes_can_be_compared(folder: Path) -> None:
    variants = read_study(study(folder, cache='["off", "auto", 18]')).variants
    assert [variant.model.input_cache for variant in variants] == ["off", "auto", 18]
    assert variants[2].label == "margin model.input_cache=18"


def test_a_wrong_skip_corrupt_is_refused(folder: Path) -> None:
    with pytest.raises(OodmlError, match="data.skip_corrupt"):
        read_study(study(folder, skip='"yes"'))


def test_embed_leaves_corrupt_images_out(folder: Path) -> None:
    broken(folder, "c00/001.png")
    command = ["embed", "--data", str(folder / "photos"), "--model", "pixels"]
    command += ["--out", str(folder / "v.npz")]
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code != 0
    result = CliRunner().invoke(app, [*command, "--skip-corrupt"])
    assert result.exit_code == 0
    assert "47 vectors" in result.output
    assert "c00/001.png" in result.output
