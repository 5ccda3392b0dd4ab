"""Text as a query, for models with a text tower: prompts, and the names of classes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from oodml.backbones import Backbone, load_backbone
from oodml.datasets import open_images
from oodml.embedding import embed, evaluation_mode
from oodml.errors import OodmlError, error_at
from oodml.evaluate.compare import class_draws
from oodml.evaluate.evaluation import Evaluation, evaluate_vectors
from oodml.vector_files import read_table
from oodml.vectors import VectorSet

NAMES_KNOWN = "names_known"
TEMPLATE = "a photo of a {}."
BATCH, RESAMPLES = 256, 2000


def embed_texts(
    texts: Sequence[str], backbone: Backbone | str, *, trust_code: bool = False
) -> Float[np.ndarray, "n d"]:
    """Embed texts as vectors [n d] in the space of the images of a model such as CLIP.

    Raises:
        OodmlError: if the model has no text tower.
    """
    name = backbone if isinstance(backbone, str) else ""
    network = load_backbone(name, trust_code=trust_code) if isinstance(backbone, str) else backbone
    if network.encode_text is None:
        advice = "a CLIP-like one by its library, such as open_clip:ViT-B-32/laion2b_s34b_b79k"
        raise OodmlError(f"the model {name} has no text tower; use {advice}", "backbone", name)
    starts = range(0, len(texts), BATCH)
    with evaluation_mode(network):
        parts = [network.encode_text(list(texts[start : start + BATCH])) for start in starts]
    return torch.cat(parts).float().cpu().numpy()


def class_prompts(classes: Sequence[str], template: str = TEMPLATE) -> list[str]:
    """A prompt of each class, such as "a photo of a Barn Swallow." of "136.Barn_Swallow".

    Folders and leading numbers are left out, and underscores are spaces.
    """
    names = [re.sub(r"^\d+[._-]+", "", name.rpartition("/")[2]) or name for name in classes]
    return [template.format(name.replace("_", " ")) for name in names]


def names_known(test: VectorSet, backbone: Backbone | str) -> float:
    """The share of images whose nearest class name is that of their class (zero-shot accuracy)."""
    texts = torch.from_numpy(embed_texts(class_prompts(test.class_names), backbone))
    images = torch.from_numpy(test.vectors).float()
    nearest = (images @ torch.nn.functional.normalize(texts, dim=1).T).argmax(1).numpy()
    return float((nearest == test.labels).mean())


def text_metrics(test: VectorSet, backbone: str) -> dict[str, float]:
    """`names_known` of a frozen model; nothing if it has no text tower."""
    network = load_backbone(backbone)
    return {} if network.encode_text is None else {NAMES_KNOWN: names_known(test, network)}


def read_prompts(file: Path) -> tuple[list[str], list[str]]:
    """The columns `text` and `class` of a CSV file, all of whose rows must have both."""
    try:
        table = read_table(file)
    except OSError as error:
        raise error_at(file, f"cannot read it as CSV: {error}") from error
    for column in ("text", "class"):
        if column not in table:
            raise error_at(file, f"no column {column!r}", [*table], ("text", "class"))
        empty = [row for row, text in enumerate(table[column], 2) if not text.strip()]
        if empty:
            raise error_at(file, f"row {empty[0]} has no {column}", empty[0])
    if not table["text"]:
        raise error_at(file, "no rows")
    return table["text"], table["class"]


def evaluate_prompts(
    data: str,
    backbone: str,
    file: Path,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    seed: int = 0,
    trust_code: bool = False,
) -> Evaluation:
    """Retrieve the images of a dataset by text: a CSV file with the columns `text` and `class`.

    The result has 95% intervals that resample classes, since its prompts are not independent.
    OodmlError if the file is invalid, or no image has the class of a prompt.
    """
    (texts, classes), images = read_prompts(file), open_images(data)
    if absent := sorted(set(classes) - set(images.class_names)):
        problem = f"no image of {images.name} has the class {absent[0]!r}"
        raise error_at(file, problem, absent[0], images.class_names)
    vectors = embed_texts(texts, backbone, trust_code=trust_code)
    queries = VectorSet(vectors, np.array(classes), np.arange(len(texts)).astype(str))
    gallery = embed(images, backbone, trust_code=trust_code)
    result = evaluate_vectors(queries, gallery, ks=ks, seed=seed, retrieval_only=True)
    per_class, n, intervals = result.per_class, len(result.per_class), {}
    counts = per_class["images"].to_numpy(dtype=np.float64)
    draws = np.concatenate([*class_draws(n, RESAMPLES, seed)])
    for name in [name for name in result.metrics if name in per_class] if n > 1 else ():
        means = (draws @ (per_class[name].to_numpy() * counts)) / (draws @ counts)
        low, high = np.quantile(means, [0.025, 0.975]).tolist()
        intervals[name] = (low, high)
    return replace(result, intervals=intervals)
