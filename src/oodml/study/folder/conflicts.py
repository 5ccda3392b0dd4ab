"""Conflicts between a study and what its folder already contains, which is never erased unasked."""

import json
import shutil
from collections.abc import Callable

from oodml.errors import OodmlError, error_at
from oodml.results.plan import StudyPlan
from oodml.study.folder.store import Store
from oodml.study.folder.table import refuse_foreign_rows

_SHARED = ("results.parquet", "splits.json", "features.npz", "study.toml", "search", "checkpoints")


def resolve_conflicts(
    store: Store, study: StudyPlan, fingerprint: Callable[[], str], replace: bool = False
) -> str:
    """Make sure that a study can use a folder; return what was removed, as a message, or ""."""
    previous = store.read_plan() if store.plan_file.exists() else StudyPlan()
    if previous.smoke and not study.smoke:
        store.refuse_while_used()
        if not replace:
            refuse_foreign_rows(store)
        _remove(store, (*_SHARED, "runs", "failed", "unfinished", "tracking", "miniature"))
        return f"{store.folder}: removed the results of a smoke test"
    difference = find_difference(store, study, fingerprint, replace)
    if replace and difference:
        store.refuse_while_used()
        _remove(store, _SHARED)
        return f"{store.folder}: removed the results table and splits of another study"
    try:
        refuse_foreign_rows(store)
    except OodmlError:
        if not replace:
            raise
        store.results.unlink()
        return f"{store.results}: removed"
    return ""


def find_difference(
    store: Store, study: StudyPlan, fingerprint: Callable[[], str], replace: bool = False
) -> str:
    """What makes the study another one than the folder's, or ""; an error if that has results."""
    previous = store.read_plan() if store.plan_file.exists() else StudyPlan()
    if previous.smoke and not study.smoke:
        return ""
    if previous.source and study.smoke and not previous.smoke:
        problem = "the smoke test would replace its results. Choose another folder with --out."
        raise error_at(store.folder, problem)
    difference, trials = _difference(previous, study, fingerprint), Store(store.folder / "search")
    if difference and not replace and (store.result_folders() or trials.result_folders()):
        remedy = "Choose another folder, or pass --replace to remove its results table and splits"
        raise error_at(store.folder, f"contains another study: {difference}. {remedy}.", study.name)
    return difference


def _difference(previous: StudyPlan, study: StudyPlan, fingerprint: Callable[[], str]) -> str:
    """What makes the study another one than the folder's, as text; "" if they are the same."""
    if not previous.source:
        return ""
    if previous.name != study.name:
        remedy = f"write `name = {json.dumps(previous.name, ensure_ascii=False)}` in the study file"
        return f"its name is {previous.name!r}, not {study.name!r}; to continue it, {remedy}"
    if previous.source != study.source and previous.fingerprint != fingerprint():
        texts = []
        for one in (previous.source, study.source):
            options = (f"{name}={value}" for name, value in (one.get("options") or {}).items())
            texts.append(" ".join([str(one.get("name")), *options]))
        return f"its data is {texts[0]}, not {texts[1]}"
    if previous.splits_key and previous.splits_key != study.splits_key:
        return "it has other splits"
    return ""


def _remove(store: Store, names: tuple[str, ...]) -> None:
    """Remove parts of a folder, the plan last, so that an interrupted removal is repeated."""
    for name in (*names, "plan.json"):
        path = store.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    store.create()
