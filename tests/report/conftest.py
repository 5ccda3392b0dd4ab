"""A synthetic study and its page, written once for all tests of the report."""

from pathlib import Path
from typing import NamedTuple

import pytest

from oodml.images.image_set import ImageSet
from oodml.report.write import write_report
from tests.report.study_folder import choose_options, keep_epochs, made_up_study


class Made(NamedTuple):
    """A study folder with its report, and the images of the study."""

    folder: Path
    images: ImageSet

    @property
    def page(self) -> Path:
        return self.folder / "report.html"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A study of three methods, four splits, and three seeds, with one failed run.

    Its options come from a search, and it recorded the test metrics of its epochs.
    """
    folder = tmp_path_factory.mktemp("study") / "stripes-study"
    images = made_up_study(folder)
    keep_epochs(folder)
    choose_options(folder)
    (folder / "failed").mkdir()
    (folder / "failed" / "0123.txt").write_text("Traceback …\nRuntimeError: <out of memory>\n")
    write_report(folder, images)
    return Made(folder, images)
