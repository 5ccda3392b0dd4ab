"""Splits, training, and studies from Python, as in a script or a notebook."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from oodml.backbones import VECTORS
from oodml.catalog import make_importable
from oodml.errors import OodmlError, error_at
from oodml.fit import train_with_progress
from oodml.images.fingerprint import fingerprint
from oodml.images.image_set import ImageSet, VectorImages
from oodml.model import Embedder, ModelTable
from oodml.results.schema import filter_rows, pivot, read_results
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.splits import Progression, Split
from oodml.study.folder.status import Status, read_status
from oodml.study.folder.store import Store
from oodml.study.launch import run_study
from oodml.study.plan import Run
from oodml.study.spec import study_file
from oodml.study.spec.tables import Key, Table, parse_settings
from oodml.study.spec.variants import PARTS, MethodTable
from oodml.training.settings import TrainSettings
from oodml.vectors import VectorSet

if TYPE_CHECKING:
    import pandas as pd

    from oodml.analysis.forecast import TargetForecast
    from oodml.report.write import Report

_FROM_PYTHON = Path("Python")
"""The file that errors name for settings that are passed as keywords."""


def build_splits(
    vectors: VectorSet,
    n_splits: int = 5,
    *,
    shots: Sequence[int] = (),
    episodes: int = 10,
    images: ImageSet | None = None,
    **settings: Any,
) -> Progression:
    """Build splits of growing shift, the easiest first, from features of labeled images.

    Args:
        vectors: features [n d] of a frozen network, with the class of each row.
        n_splits: the number of splits, evenly spaced in shift.
        shots: the numbers of support images per class to sample few-shot episodes for.
        episodes: the number of episodes per split and number of shots.
        images: the images of the vectors, whose own training part is used if they have one;
            required by the settings `group` and `time`.
        settings: further keys of the table `[splits]` of a study file, such as `validation`.

    Raises:
        OodmlError: if a setting is unknown or invalid, or there are too few classes.
    """
    table = {"n_splits": n_splits, **settings}
    chosen = parse_settings(SplitSettings, table, Key(_FROM_PYTHON, "splits"))
    return build_progression(vectors, chosen, shots, episodes, images)


def train(
    images: ImageSet,
    method: str = "margin",
    *,
    split: Split | None = None,
    seed: int = 0,
    device: str | None = None,
    **settings: Any,
) -> Embedder:
    """Train a model, from images [n 3 h w] to embeddings [n d], on the training classes of a split.

    It is returned in evaluation mode. The epoch with the best validation metric is used, if the
    split has validation classes.

    Args:
        images: the images; test classes of the split are not used.
        method: a name from `oodml.names("methods")`, or an import path.
        split: the split; by default all classes are used for training, without validation.
        seed, device: random seed; such as "cpu" or "cuda:1", by default a GPU if there is one.
        settings: options of the method, and keys of the tables `[model]` and `[train]` of a study
            file, such as `backbone`, `epochs`, or `dim`. By default, a batch contains at most half
            of the training classes.

    Raises:
        OodmlError: if a setting is unknown or invalid, or the loss is not finite.
    """
    split = split or Split("all", images.class_names, (), 0.0)
    vectors = {"backbone": VECTORS, "views": 1} if isinstance(images, VectorImages) else {}
    table: dict[str, Any] = {"model": vectors, "train": {}}
    keys = {"model": ModelTable.model_fields, "train": TrainSettings.model_fields}
    for key, value in settings.items():
        part = next((part for part, own in keys.items() if key in own), None)
        (table[part] if part else table)[key] = value
    n_classes = len(set(split.train) - set(split.validation))
    table["train"].setdefault("batch_size", min(112, 2 * max(2, n_classes // 2)))
    bases: dict[str, Table] = {part: {} for part in PARTS}
    variants = [*MethodTable(method, table, bases, _FROM_PYTHON).variants((seed,))]
    if len(variants) > 1:
        raise OodmlError("train: one value for each setting; a list is a sweep", location="train")
    fields = variants[0].run_fields() | {"data": images.name, "fingerprint": fingerprint(images)}
    return train_with_progress(Run(**fields, split=split, seed=seed), images, device)


class Study:
    """A study: methods on splits of growing shift, with several seeds.

    Args:
        data: a dataset's name, a folder or table of images, or a file of vectors; with options,
            a table as in a study file: `{"name": "cub200", "root": "data/cub200"}`.
        methods: the names of the methods, or a table for each name.
        keys: the other keys of a study file: `seeds`, `shots`, `splits`, `model`, `train`, …
    """

    def __init__(
        self,
        data: str | Path | dict[str, Any],
        methods: Iterable[str] | dict[str, Any],
        **keys: Any,
    ) -> None:
        source = data if isinstance(data, dict) else {"name": Path(data).expanduser()}
        source = {key: str(one) if isinstance(one, Path) else one for key, one in source.items()}
        name = Path(str(source.get("name"))).stem
        chosen = methods if isinstance(methods, dict) else list(methods)
        tables = {"name": name, "data": source, "methods": chosen, **keys}
        make_importable(Path.cwd())
        parsed = study_file.parse_study(tables, Path.cwd() / "study.toml")
        located = {"name": parsed.data.name, **parsed.data.options}  # its paths are absolute
        text = tomli_w.dumps(tables | {"data": located})
        self.spec: study_file.Study | None = parsed.model_copy(update={"text": text})
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder with the results; an error before `run`."""
        if self._folder is None:
            raise OodmlError("the study has no results yet: call run(FOLDER)", location="folder")
        return self._folder

    def run(self, folder: str | Path, workers: int = 1, **options: Any) -> "Study":
        """Execute the runs that are missing in a folder, and return the study.

        Call it again to resume. One worker works in this process; a script that uses several needs
        `if __name__ == "__main__"`.

        Args:
            folder: the folder of the study; it is created if it does not exist.
            workers, options: fields of `oodml.study.launch.Launcher`, such as `device="cpu"`.

        Raises:
            OodmlError: if a run fails (after the others), or the folder belongs to another study.
        """
        self._folder = Path(folder)
        if self.spec is None:
            raise OodmlError(f"{folder}: opened for reading; run its study.toml instead")
        status = run_study(self.spec, folder, workers=workers, **options)
        if status.failed:
            run, reason = status.failed[0]
            problem = f"{len(status.failed)} runs failed; the first, {run.description}: {reason}"
            raise error_at(folder, problem)
        return self

    def status(self) -> Status:
        """Which runs are done, running, failed, or missing."""
        return read_status(self.folder)

    @property
    def results(self) -> "pd.DataFrame":
        """The results table: one number per row."""
        return read_results(Store(self.folder).results)

    def table(
        self,
        metric: str = "recall@1",
        *,
        stage: str = "zero_shot",
        rows: str = "method",
        columns: str = "split",
    ) -> "pd.DataFrame":
        """Means and standard deviations as text, as `oodml study table` prints them.

        Args:
            metric: such as "recall@1" or "map@r".
            stage: such as "zero_shot" (the test classes), "validation", or "after" adaptation.
            rows, columns: columns of the results; rows may be several, separated by commas.
        """
        wanted = {"stage": [stage], "metric": [metric]}
        return pivot(filter_rows(self.results, wanted), rows.split(","), columns)

    def report(self, out: str | Path | None = None) -> "Report":
        """Write the page, figures, and tables, by default into the study's folder.

        The report has the path `page`, and the data frames `tables` by name.
        """
        from oodml.report.write import write_report

        return write_report(self.folder, out=out)

    def forecast(
        self,
        new: str | Path,
        *,
        classes: float | None = None,
        images_per_class: float | None = None,
        device: str | None = None,
    ) -> "TargetForecast":
        """Forecast Recall@1 of each method (the data frame `methods`) on images of new classes.

        Args:
            new: a folder or table of images, which may be unlabeled, or a file of their features.
            classes, images_per_class: the number of either, if one is known; else estimated.
            device: such as "cpu" or "cuda:1"; by default a GPU if there is one.

        Raises:
            OodmlError: if the study lacks features or results, or there are fewer than 20 images.
        """
        from oodml.forecasting.target import open_forecast
        from oodml.report.folder import read_folder

        folder = read_folder(self.folder)
        opened = open_forecast(folder, str(new), classes, images_per_class, device=device)
        return opened.forecast

    def __repr__(self) -> str:
        if self._folder is not None and (self._folder / "plan.json").exists():
            status = self.status()
            done = f"{len(status.done)} of {status.total} runs done"
            return f"Study {status.name}: {done} in {self._folder}"
        assert self.spec is not None
        return f"Study {self.spec.name}: {len(self.spec.variants)} methods, not started"

    def _repr_html_(self) -> str:
        if self._folder is None or not Store(self._folder).results.exists():
            return escape(repr(self))
        return f"{escape(repr(self))}{self.table().to_html()}"


def open_study(folder: str | Path) -> Study:
    """Open a folder that a study wrote, to read tables, forecast, or write the report.

    Raises:
        OodmlError: if the folder contains no study.
    """
    Store(Path(folder)).read_plan()
    study = Study.__new__(Study)
    study.spec, study._folder = None, Path(folder)
    return study
