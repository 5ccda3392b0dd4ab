"""Conflicts between a study and what its folder already contains, which is never erased unasked."""

import shutil
from collections.abc import Callable

from oodml.errors import OodmlError, error_at
from oodml.results.plan import StudyPlan
from oodml.study.folder.claims import Claims
from oodml.study.folder.store import Store
from oodml.study.folder.table import refuse_foreign_rows

_SHARED = ("results.parquet", "splits.json", "features.npz", "study.toml", "search", "checkpoints")


def resolve_conflicts(
    store: Store, study: StudyPlan, fingerprint: Callable[[], str], replace: bool = False
) -> str:
    """Make sure that a study can use a folder; return what was removed, as a message, or "".

    Results of a smoke test are removed when the real study starts. With `replace`, results of
    another study are removed, too, except finished runs, which are reused where they match.
    """
    previous = store.read_plan() if store.plan_file.exists() else StudyPlan()
    if previous.smoke and not study.smoke:
        _refuse_while_used(store)
        if not replace:
            refuse_foreign_rows(store)
        _remove(store, (*_SHARED, "runs", "failed", "unfinished", "tracking", "miniature"))
        return f"{store.folder}: removed the results of a smoke test"
    if previous.source and study.smoke and not previous.smoke:
        problem = "the smoke test would replace its results. Choose another folder with --out."
        raise error_at(store.folder, problem)
    difference = _difference(previous, study, fingerprint)
    trials = Store(store.folder / "search")
    if replace and difference:
        _refuse_while_used(store)
        _remove(store, _SHARED)
        return f"{store.folder}: removed the results table and splits of another study"
    if difference and (store.result_folders() or trials.result_folders()):
        remedy = "Choose another folder, or pass --replace to remove its results table and splits"
        raise error_at(store.folder, f"contains another study: {difference}. {remedy}.", study.name)
    try:
        refuse_foreign_rows(store)
    except OodmlError:
        if not replace:
            raise
        store.results.unlink()
        return f"{store.results}: removed"
    return ""


def _difference(previous: StudyPlan, study: StudyPlan, fingerprint: Callable[[], str]) -> str:
    """What makes the study another one than the folder's, as text; "" if they are the same."""
    if not previous.source:
        return ""
    if previous.name != study.name:
        return f"its name is {previous.name!r}, not {study.name!r}"
    if previous.source != study.source and previous.fingerprint != fingerprint():
        texts = []
        for source in (previous.source, study.source):
            options = ", ".join(
                f"{k} {value}" for k, value in (source.get("options") or {}).items()
            )
            texts.append(f"{source.get('name')}" + (f" ({options})" if options else ""))
        return f"its data is {texts[0]}, not {texts[1]}"
    if previous.splits_key and previous.splits_key != study.splits_key:
        return "it has other splits"
    return ""


def _refuse_while_used(store: Store) -> None:
    claims = Claims(store.claims)
    if any(not claims.is_dead(path) for _, path in claims.current().values()):
        problem = "another process is working in it. Stop it, or choose another folder with --out."
        raise error_at(store.folder, problem)


def _remove(store: Store, names: tuple[str, ...]) -> None:
    """Remove parts of a folder, the plan last, so that an interrupted removal is repeated."""
    for name in (*names, "plan.json"):
        path = store.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    store.create()
