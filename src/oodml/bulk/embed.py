"""Embedding in shards, by processes of this machine or by Ray: `oodml embed --out FOLDER`.

A shard is written under its final name when it is complete, so the same command resumes.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import torch

from oodml.bulk.sources import Collection, Job, TolerantImages
from oodml.catalog import make_importable
from oodml.embedding import ImageEmbedder, weights_key
from oodml.errors import OodmlError, error_at
from oodml.files import replacing, write_text
from oodml.model import load_model
from oodml.model_input import input_short
from oodml.progress import Progress, hide_progress
from oodml.ray_cluster import connect
from oodml.study.workers import local
from oodml.vectors import VectorSet

SETTINGS = "embed.json"
"""The file of what the shards of a folder are computed from."""
CORRUPT = "corrupt.csv"
SHARD_SUFFIXES = (".parquet", ".npy")


@dataclass(frozen=True)
class BulkSettings:
    """How images are embedded: the name of a backbone with its options, or the folder of a model.

    The suffix is that of the shards, and `code` the folder of user code.
    """

    backbone: str | None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ".parquet"
    device: str = "cpu"
    batch_size: int | None = None
    trust_code: bool = False
    code: str = "."

    def identity(self) -> dict[str, Any]:
        """What the vectors depend on, as JSON values."""
        values = asdict(self)
        folder, weights = self.model, self.options.get("weights")
        files = sorted(map(str, Path(folder).glob("*.safetensors"))) if folder else [weights]
        values["weights"] = list(map(weights_key, files))
        return {key: values[key] for key in ("backbone", "model", "options", "weights", "suffix")}


class ShardWriter:
    """Loads the network once and embeds jobs."""

    def __init__(self, settings: BulkSettings) -> None:
        make_importable(settings.code)
        self.suffix = settings.suffix
        network: Any = settings.backbone
        if settings.model is not None:
            network = load_model(settings.model, settings.trust_code)
        self.short = None if settings.model is None else input_short(network.settings)
        self.embed = ImageEmbedder(
            network, settings.device, settings.batch_size, settings.trust_code, **settings.options
        )

    def write(self, job: Job, folder: Path) -> int:
        """Write the shard of a job into a folder; return the number of images, corrupt ones too."""
        parts, problems, n = [], list[tuple[str, str]](), 0
        for images in job.parts():
            tolerant = TolerantImages(**images.values(), inner=images, short=self.short)
            vectors = self.embed(tolerant) if len(images) else np.zeros((0, 0))
            bad = sorted(tolerant.problems)
            problems += [(str(images.ids[row]), tolerant.problems[row]) for row in bad]
            readable = np.setdiff1d(np.arange(len(images)), bad)
            n += len(images)
            if len(readable):
                rows = (images.classes, images.ids, images.superclasses)
                given = VectorSet(vectors, *rows, {}, images.partition, images.attributes)
                parts.append(given.select(readable))
        path = folder / f"{shard_name(job.number)}{self.suffix}"
        if problems:
            _write_problems(path.with_suffix(".corrupt.csv"), problems)
        if parts:
            _join(parts).save(path)
        else:
            path.with_suffix(".empty").touch()
        return n


def shard_name(number: int) -> str:
    """The name of a shard without its suffix."""
    return f"part-{number:06}"


def embed_shards(
    source: Collection, out: Path, settings: BulkSettings, workers: int = 1, on: str = "local"
) -> tuple[int, int]:
    """Embed a collection into a folder of shards, except for shards that exist.

    Runs in processes here ("local"), or in actors of "ray" or "ray://HOST:PORT", whose nodes must
    reach images and model by the same paths. Returns the numbers of shards and of corrupt images,
    which `corrupt.csv` lists.

    Raises:
        OodmlError: if the folder contains shards of other images or of another network.
    """
    _check_folder(out, {**source.identity, **settings.identity()})
    names, ends = {path.name for path in out.iterdir()}, (settings.suffix, ".empty")
    missing = [n for n in range(source.n_jobs) if not names & {shard_name(n) + e for e in ends}]
    jobs = source.jobs(missing)
    with Progress(f"Embedding into {out}", len(missing), "shards") as progress:
        if on != "local":
            done = _on_ray(on, jobs, len(missing), settings, workers, out)
        elif workers == 1:
            _writer[:] = [ShardWriter(settings)]
            done = (_write_in_worker(job, out) for job in jobs)
        else:
            done = _in_processes(jobs, settings, workers, out)
        for _ in done:
            progress.advance(1)
    return source.n_jobs, _list_corrupt(out)


def _check_folder(out: Path, identity: Mapping[str, Any]) -> None:
    path = out / SETTINGS
    out.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if any(out.iterdir()):
            raise error_at(out, "the folder is not empty and has no shards; choose another one")
        write_text(path, json.dumps(identity, indent=1))
        return
    given = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(identity))
    different = [key for key in wanted if given.get(key) != wanted[key]]
    if different:
        key = different[0]
        problem = f"the shards have {key} = {given.get(key)}, now {wanted[key]}; choose another one"
        raise error_at(path, problem, wanted[key], (str(given.get(key)),))


def _list_corrupt(out: Path) -> int:
    """Join the lists of corrupt images of all shards; remove what interrupted commands left."""
    paths = sorted(out.glob("part-*.corrupt.csv"))
    tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
    rows = [row for table in tables for row in table.itertuples(index=False, name=None)]
    for path in out.glob(".part-*"):
        path.unlink(missing_ok=True)
    _write_problems(out / CORRUPT, rows)
    return len(rows)


def _write_problems(path: Path, rows: list[tuple[str, str]]) -> None:
    table = pd.DataFrame(rows, columns=["id", "problem"])
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _join(parts: list[VectorSet]) -> VectorSet:
    columns = {name: [getattr(part, name) for part in parts] for name in VectorSet.PER_ROW}
    present = {name: own for name, own in columns.items() if own[0] is not None}
    attributes = {name: [part.attributes[name] for part in parts] for name in parts[0].attributes}
    named: Any = {name: np.concatenate(own) for name, own in present.items()}
    more = {name: np.concatenate(own) for name, own in attributes.items()}
    return VectorSet(**named, source=parts[0].source if len(parts) == 1 else {}, attributes=more)


_writer: list[ShardWriter] = []
"""The writer of a worker process."""


def _start_worker(settings: BulkSettings, threads: int, counter: Any) -> None:
    Thread(target=local.end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with counter.get_lock():
        index, counter.value = counter.value, counter.value + 1
    values = {**vars(settings), "device": local.worker_device(settings.device, index)}
    _writer[:] = [ShardWriter(BulkSettings(**values))]


def _write_in_worker(job: Job, out: Path) -> int:
    with hide_progress():
        return _writer[0].write(job, out)


def _in_processes(
    jobs: Iterator[Job], settings: BulkSettings, workers: int, out: Path
) -> Iterator[int]:
    context = local.process_context()
    ShardWriter(settings)  # errors of the network appear here, once
    arguments = (settings, max(1, torch.get_num_threads() // workers), context.Value("i", 0))
    with ExitStack() as stack:
        stack.enter_context(local.without_main_script(None))
        pool = stack.enter_context(ProcessPoolExecutor(workers, context, _start_worker, arguments))
        pending: set[Future[int]] = set()
        try:
            for job in jobs:
                if len(pending) >= 2 * workers:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                pending.add(pool.submit(_write_in_worker, job, out))
            yield from (future.result() for future in pending)
        except BrokenProcessPool as error:
            problem = "a worker was killed, most likely because memory ran out; use fewer workers"
            raise OodmlError(problem, "workers", workers) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class RayShardWriter:
    """An actor of Ray Data that turns a job into the files of its shard."""

    def __init__(self, settings: BulkSettings) -> None:
        self.writer = ShardWriter(settings)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One row per file: its name and its contents, the file that completes a shard last."""
        files: list[tuple[str, bytes]] = []
        with hide_progress():
            for job in batch["job"]:
                with tempfile.TemporaryDirectory() as folder:
                    self.writer.write(job, Path(folder))
                    paths = sorted(Path(folder).iterdir(), key=lambda path: path.suffix != ".csv")
                    files += [(path.name, path.read_bytes()) for path in paths]
        names, contents = zip(*files, strict=True)
        return {"name": np.array(names), "data": np.array(contents, dtype=object)}


def _on_ray(
    on: str, jobs: Iterator[Job], n_jobs: int, settings: BulkSettings, workers: int, out: Path
) -> Iterator[int]:
    if not n_jobs:
        return
    with connect(on, workers):
        import ray.data  # type: ignore[import-not-found,unused-ignore]

        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"job": job} for job in jobs]
        options: dict[str, Any] = {"batch_size": 1, "concurrency": workers, "num_cpus": 1}
        options |= {"num_gpus": int(settings.device.startswith("cuda"))}
        options |= {"fn_constructor_args": (settings,)}
        shards = ray.data.from_items(rows, override_num_blocks=n_jobs)
        for row in shards.map_batches(RayShardWriter, **options).iter_rows():
            with replacing(out / row["name"]) as temporary:
                temporary.write_bytes(row["data"])
            if not row["name"].endswith(".csv"):
                yield 1
