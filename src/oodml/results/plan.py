"""What is planned and what was run: the contents of `plan.json` and of each run's `run.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from oodml.errors import OodmlError, error_at
from oodml.files import write_text

EXTERNAL = "external-"
"""The start of the ids of external runs, whose vectors come from elsewhere."""


class FurtherTest(BaseModel):
    """A dataset besides the study's own that a run's model is tested on.

    `shift` is that from the training classes of the run's split to all of its classes, if known.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    fingerprint: str
    shift: float | None = None


class RunPlan(BaseModel):
    """One planned run: everything its numbers depend on, as JSON values."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    id: str  # hashes what changes the numbers
    position: int = 0  # of the split
    data: str
    fingerprint: str
    label: str  # the method's name in the results
    method: str
    trains: bool = True
    options: Mapping[str, Any] = Field(default_factory=dict)
    model: Mapping[str, Any] = Field(default_factory=dict)
    train: Mapping[str, Any] = Field(default_factory=dict)
    adapt: Mapping[str, Any] = Field(default_factory=dict)
    split: str
    shift: float
    shots: tuple[int, ...] = ()
    seed: int
    test_data: tuple[FurtherTest, ...] = ()
    code: Mapping[str, str] = Field(default_factory=dict)  # fingerprints of user code
    input_short: int | None = None  # the short side of images in the pixel cache
    trial: int | None = None
    values: Mapping[str, Any] | None = None
    external: str = ""  # the hash of the split of a run trained elsewhere

    @model_validator(mode="before")
    @classmethod
    def _add_trains(cls, values: Any) -> Any:
        """Plans of earlier versions do not say what trains; there, "frozen" does not."""
        if isinstance(values, dict) and "trains" not in values:
            return values | {"trains": values.get("method") != "frozen"}
        return values

    @property
    def identity(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("data", "split", "shift", "seed")}
        return {"run": self.id, "method": self.label, **own}

    @property
    def test_shifts(self) -> dict[str, float | None]:
        return {one.data: one.shift for one in self.test_data}

    @property
    def description(self) -> str:
        """The run in words, such as "margin on split 0, seed 3"."""
        trial = "" if self.trial is None else f", trial {self.trial}"
        return f"{self.label} on split {self.split}, seed {self.seed}{trial}"


class FinishedRun(RunPlan):
    """A run that has finished: the contents of `run.json`, with package versions and hardware."""

    seconds: float
    host: str = ""
    finished: str = ""
    versions: Mapping[str, str] = Field(default_factory=dict)
    hardware: Mapping[str, str] = Field(default_factory=dict)


class StudyPlan(BaseModel):
    """All runs of a study and what workers need to execute them."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    schema_version: int = Field(default=1, alias="schema")
    name: str = ""
    source: Mapping[str, Any] = Field(default_factory=dict)
    test_sources: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    left_out: tuple[str, ...] = ()  # the ids of corrupt images
    fingerprint: str = ""
    splits_key: str = ""  # hashes the settings or the file of the splits
    progression: str = ""  # hashes what the splits depend on; "" while they are being built
    shift_weights: str | None = None
    import_from: tuple[str, ...] = ()  # folders of user code
    runs: tuple[RunPlan, ...] = ()
    keeping: Mapping[str, Any] = Field(default_factory=dict)  # of checkpoints and trackers
    search: Mapping[str, Any] = Field(default_factory=dict)  # the options that it chose
    smoke: bool = False
    unit: str = "runs"
    pending_trials: int = 0

    @property
    def baselines(self) -> set[str]:
        return {run.label for run in self.runs if not run.trains}


def write_plan(plan: StudyPlan, path: Path) -> None:
    write_text(path, json.dumps(plan.model_dump(mode="json", by_alias=True), indent=1))


def read_plan(path: Path) -> StudyPlan:
    try:
        return StudyPlan.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        remedy = f"Start a study with `oodml study run FILE --out {path.parent}`"
        problem = f"{path.parent}: not a study folder (no plan.json). {remedy}"
        raise OodmlError(problem, str(path)) from error
    except (OSError, ValueError) as error:
        remedy = "Delete it and run the study again; finished runs are not repeated."
        raise error_at(path, f"damaged ({error}). {remedy}") from error


def read_run(path: Path) -> FinishedRun:
    try:
        return FinishedRun.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        remedy = f"Delete {path.parent} and run the study again."
        raise error_at(path, f"damaged or missing ({error}). {remedy}") from error
