"""Runs as Ray tasks. The study folder is on the driver's machine only.

Images, cached features, splits, and user code go to each node once, through Ray's object store.
Each task works in a mirror of the study folder on its node. Its checkpoints are sent to the driver,
so a run whose node dies, or whose driver is restarted, resumes.
"""

import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from oodml.catalog import make_importable
from oodml.embedding import feature_cache_file
from oodml.files import cache_folder
from oodml.images.image_set import ImageSet
from oodml.model import HeadSettings
from oodml.ray_cluster import NODE_FAILURES, connect
from oodml.results.plan import RunPlan
from oodml.shift.files import read_splits
from oodml.study.folder.claims import Claim, Claims, in_background
from oodml.study.folder.store import Store, failure_text
from oodml.study.prepare import Context, group_by_network, open_context, views_of
from oodml.study.workers.work import POLL, Execute, default_execute, execute_run

CHUNK_BYTES = 2**28
"""Files are shipped in objects of about this size."""
OWN = ".own"
"""The name of the study's own images among all datasets."""
CHECKPOINT_SECONDS = 1.0
"""Seconds between two checks for a new checkpoint to send."""

Files = dict[str, bytes]


@dataclass(frozen=True)
class _Bundle:
    """What a node needs: the image sets of a study, and references to chunks of all files."""

    token: str
    sets: Mapping[str, ImageSet]
    keeping: Mapping[str, Any]
    code: tuple[Files, ...]
    chunks: tuple[Any, ...]


def run_on_ray(
    on: str,
    store: Store,
    execute: Execute | None,
    workers: int,
    device: str,
    threads: int | None,
    options: Mapping[str, Any],
) -> None:
    resources = {"num_cpus": 1, "num_gpus": 1 if device.startswith("cuda") else 0, **options}
    with connect(on, workers) as ray:
        driver = _Driver(ray, store, resources, execute, device, threads)
        try:
            driver.run()
        finally:
            for reference, (_, claim) in driver.pending.items():
                with suppress(Exception):
                    ray.cancel(reference, force=True)
                driver.claims.release(claim)


class _Driver:
    """Submits runs, publishes what comes back, and stores the checkpoints of running ones."""

    def __init__(
        self, ray: Any, store: Store, resources: Mapping[str, Any], *arguments: Any
    ) -> None:
        """The arguments are the last ones of `_run_on_node`."""
        self.ray, self.store, self.claims = ray, store, Claims(store.claims)
        self.pending: dict[Any, tuple[RunPlan, Claim]] = {}
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Mailbox)
        self.mailbox, bundle = actor.remote(), ray.put(_make_bundle(ray, store))
        self.arguments = (bundle, self.mailbox, *arguments)
        self.task = ray.remote(max_retries=NODE_FAILURES, **resources)(_run_on_node)

    def run(self) -> None:
        """Return when every run of the plan is settled, here or by another process."""
        runs = self.store.read_plan().runs
        while unsettled := self.store.unsettled(runs):
            submitted = {run.id for run, _ in self.pending.values()}
            for run in unsettled:
                if run.id not in submitted and (claim := self.claims.take(run.id)) is not None:
                    checkpoints = _read_files(self.store.checkpoints / run.id)
                    name = f"{run.method} split {run.split} seed {run.seed}"
                    task = self.task.options(name=name)
                    reference = task.remote(run.id, checkpoints, *self.arguments)
                    self.pending[reference] = run, claim
            if not self.pending:
                time.sleep(POLL)
                continue
            done, _ = self.ray.wait(list(self.pending), timeout=POLL)
            for name, files in self.ray.get(self.mailbox.take.remote()).items():
                _write_files(files, self.store.checkpoints / name)
            for reference in done:
                self._publish(reference, *self.pending.pop(reference))
            for _, claim in self.pending.values():
                claim.renew()

    def _publish(self, reference: Any, run: RunPlan, claim: Claim) -> None:
        try:
            files = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.store.record_failure(run.id, failure_text(run, error))
            return
        finally:
            self.claims.release(claim)
        names, start = list(files), f"runs/{run.id}/"
        finished = {k.removeprefix(start): files.pop(k) for k in names if k.startswith(start)}
        if finished:
            folder = self.store.create_unfinished(run.id, claim)
            _write_files(finished, folder)
            self.store.adopt(run.id, folder)
        _write_files(files, self.store.folder)


class _Mailbox:
    """An actor that holds the newest checkpoints of each run."""

    def __init__(self) -> None:
        self.newest: dict[str, Files] = {}
        self.untaken: dict[str, Files] = {}

    def put(self, run: str, files: Files) -> None:
        self.newest[run] = self.untaken[run] = files

    def get(self, run: str) -> Files:
        return self.newest.get(run, {})

    def take(self) -> dict[str, Files]:
        untaken, self.untaken = self.untaken, {}
        return untaken

    def remove(self, run: str) -> None:
        self.newest.pop(run, None)
        self.untaken.pop(run, None)


def _run_on_node(
    name: str,
    checkpoints: Files,
    bundle: _Bundle,
    mailbox: Any,
    execute: Execute | None,
    device: str,
    threads: int | None,
) -> Files:
    """Execute a run in this node's mirror of the study; return its files, or its failure."""
    if threads is not None:
        torch.set_num_threads(threads)
    store, context = _open_mirror(bundle, device)
    run = next(run for run in store.read_plan().runs if run.id == name)
    shutil.rmtree(store.runs / name, ignore_errors=True)
    store.clear_failure(name)
    # Ray would give the processor of a task that waits in `ray.get` to another task.
    newest = mailbox.get.remote(name).future().result() or checkpoints
    _write_files(newest, store.checkpoints / name)
    while (claim := Claims(store.claims).take(name)) is None:
        time.sleep(POLL)  # an earlier attempt of this run on this node is about to end
    send = partial(_send_checkpoints, store.checkpoints / name, name, mailbox)
    with in_background("checkpoints", send):
        execute_run(run, claim, store, context, execute or default_execute())
    Claims(store.claims).release(claim)
    mailbox.remove.remote(name)
    parts = (f"{part}/**/*" for part in ("tracking", f"runs/{name}", f"failed/{name}"))
    return _read_files(store.folder, *parts, f"failed/{name}.txt")


def _send_checkpoints(folder: Path, run: str, mailbox: Any, done: threading.Event) -> None:
    sent: dict[str, int] = {}
    while not done.wait(CHECKPOINT_SECONDS):
        times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.pt")}
        if times != sent:
            mailbox.put.remote(run, _read_files(folder))
            sent |= times


def _make_bundle(ray: Any, store: Store) -> _Bundle:
    plan, context = store.read_plan(), open_context(store, "cpu")
    sets = {OWN: context.images, **context.further}
    images = (
        (f"images/{name}/{image}", one.path(index))
        for name, one in sets.items()
        for index, image in enumerate(one.ids.tolist() if one.root is not None else ())
    )
    study = (("study/plan.json", store.plan_file), ("study/splits.json", store.splits))
    files = _chunks((*study, *images, *_feature_files(plan.runs, sets.values())))
    code = tuple(_code_files(Path(folder)) for folder in plan.import_from)
    return _Bundle(uuid.uuid4().hex, sets, plan.keeping, code, tuple(map(ray.put, files)))


def _feature_files(runs: Iterable[RunPlan], sets: Iterable[ImageSet]) -> Iterator[tuple[str, Path]]:
    for model, group in group_by_network(runs).items():
        if not isinstance(model, HeadSettings):
            continue
        views = max(map(views_of, group))
        options = model.model_dump(include={"weights", "image_size", "augmentation", "pooling"})
        for images in sets:
            for view in (None, *range(views)):
                path = feature_cache_file(images, model.backbone, options, view)
                if path is not None and path.exists():
                    yield f"cache/{path.relative_to(cache_folder()).as_posix()}", path


def _chunks(files: Iterable[tuple[str, Path]]) -> Iterator[Files]:
    chunk, size = Files(), 0
    for name, path in files:
        if name in chunk:
            continue
        chunk[name] = path.read_bytes()
        size += len(chunk[name])
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def _code_files(folder: Path) -> Files:
    """The Python files of a folder of user code, and of the packages in it."""
    packages = (f"{file.parent.name}/**/*.py" for file in folder.glob("*/__init__.py"))
    return _read_files(folder, "*.py", *packages)


def _open_mirror(bundle: _Bundle, device: str) -> tuple[Store, Context]:
    """This node's mirror of the study folder, which the first task of the node creates."""
    import ray  # type: ignore[import-not-found,unused-ignore]

    node = ray.get_runtime_context().get_node_id()
    root = Path(tempfile.gettempdir()) / f"oodml-{bundle.token}-{node}"
    store = Store(root / "study")
    store.create()
    os.environ["OODML_CACHE"] = str(root / "cache")
    claims = Claims(store.claims)
    while not (root / "complete").exists():
        claim = claims.take("unpack")
        if claim is None:
            time.sleep(POLL)
            continue
        for reference in bundle.chunks:
            _write_files(reference.future().result(), root)
        for number, files in enumerate(bundle.code):
            _write_files(files, root / f"code{number}")
        (root / "complete").touch()
        claims.release(claim)
    make_importable(*(str(root / f"code{number}") for number in range(len(bundle.code))))
    sets = {
        name: one if one.root is None else replace(one, root=root / "images" / name)
        for name, one in bundle.sets.items()
    }
    images, splits = sets.pop(OWN), read_splits(store.splits)
    return store, Context(images, splits, torch.device(device), bundle.keeping, further=sets)


def _read_files(folder: Path, *patterns: str) -> Files:
    """The contents of all files in a folder, or of those that match, by their relative paths."""
    paths = (path for pattern in patterns or ["**/*"] for path in folder.glob(pattern))
    files = sorted(path for path in paths if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _write_files(files: Files, folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        temporary.write_bytes(data)
        temporary.replace(path)
