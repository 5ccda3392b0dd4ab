"""Models and splits as objects of mteb (Massive Embedding Benchmark), for its tasks on images."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.embedding import embed
from oodml.errors import OodmlError, require
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, open_model
from oodml.shift.splits import Split
from oodml.study.folder.named_run import run_folder

TEST, SUBSET = "test", "default"
"""The names of a task's only split and subset in mteb."""


def mteb_model(
    model: Embedder | str | Path, name: str | None = None, trust_code: bool = False
) -> Any:
    """An encoder of mteb, compared by cosines, for `mteb.evaluate` on tasks of images.

    The model may be its folder, a run as "RESULTS:METHOD[:SPLIT[:SEED]]", or the name of a
    backbone; its name in results is by default "oodml/" and this.

    Raises:
        OodmlError: if mteb is not installed, or the model cannot be loaded.
    """
    require("mteb", "mteb")
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder

    embedder = model
    if not isinstance(embedder, Embedder):
        folder = run_folder(embedder) or embedder
        embedder = open_model(folder, trust_code=trust_code, normalize=True)
    required = [key for key, one in ModelMeta.model_fields.items() if one.is_required()]
    label = embedder.settings.backbone if isinstance(model, Embedder) else str(model)
    meta = dict.fromkeys(required) | {
        "name": name or f"oodml/{re.sub(r'[^A-Za-z0-9.]+', '-', label).strip('-')}",
        "revision": "1", "modalities": ["image"], "framework": ["PyTorch"],
        "similarity_fn_name": "cosine",
        "n_parameters": sum(weight.numel() for weight in embedder.parameters()),
    }  # fmt: skip

    class Encoder(AbsEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            self.model, self.mteb_model_meta = embedder, ModelMeta(**meta)

        def encode(self, inputs: Any, **_: Any) -> NDArray[np.float32]:
            parts = []
            for batch in inputs:
                if "image" not in batch:
                    problem = f"the model embeds images; given {sorted(batch)}"
                    raise OodmlError(problem, location="image")
                pictures = np.empty(len(batch["image"]), dtype=object)
                pictures[:] = batch["image"]
                names = np.arange(len(pictures)).astype(str)
                images = ImageSet("batch", names, names, pixels=pictures)
                parts.append(embed(images, embedder).vectors)
            return np.concatenate(parts).astype(np.float32)

    return Encoder()


def as_mteb_task(split: Split, images: ImageSet) -> Any:
    """A retrieval task of mteb, with its images loaded, from the test classes of a split.

    Each test image is a query among all others, so `hit_rate_at_1` is Recall@1 of oodml.

    Raises:
        OodmlError: if mteb is not installed, or the images lack the test classes.
    """
    require("mteb", "mteb")
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    test = images.subset(split.test)
    features = Features({"id": Value("string"), "image": ImageFeature()})
    columns = {"id": test.ids.tolist(), "image": [test.read(row) for row in range(len(test))]}
    table = Dataset.from_dict(columns, features)
    relevant = {
        name: dict.fromkeys(np.setdiff1d(test.ids[test.classes == own], [name]).tolist(), 1)
        for name, own in zip(test.ids.tolist(), test.classes, strict=True)
    }
    title = re.sub(r"\W+", "", images.name).capitalize()

    class Task(AbsTaskRetrieval):  # type: ignore[misc]
        ignore_identical_ids = True
        metadata = TaskMetadata(
            name=f"{title}Split{split.step}I2IRetrieval", main_score="hit_rate_at_1",
            description=f"{len(split.test)} classes of {images.name}, split {split.step}.",
            dataset={"path": images.name, "revision": "1"}, type="Any2AnyRetrieval",
            category="i2i", modalities=["image"], eval_splits=[TEST], eval_langs=["eng-Latn"],
        )  # fmt: skip

        def load_data(self, *_: Any, **__: Any) -> None:
            data = {"corpus": table, "queries": table, "relevant_docs": relevant}
            self.dataset = {SUBSET: {TEST: {**data, "top_ranked": None}}}
            self.data_loaded = True

    task = Task()
    task.load_data()
    return task
