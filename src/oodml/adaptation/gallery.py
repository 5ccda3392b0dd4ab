"""Add new classes to a gallery: what happens to the queries of the new and of the other classes?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from oodml.adaptation.episodes import fit_heads
from oodml.adaptation.heads import Heads, heads_of
from oodml.adaptation.images import leave_out_copies, list_some, rows_by_class, view_features
from oodml.adaptation.settings import AdaptSettings
from oodml.arrays import Names
from oodml.devices import resolve_device
from oodml.embedding import backbone_features
from oodml.errors import OodmlError
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.images.image_set import ImageSet
from oodml.model import Embedder

_Images = tuple[Float[np.ndarray, "_ f"], Names]
"""The features and the classes of images."""


@dataclass(frozen=True)
class GalleryRecall:
    """Recall@1 of the queries of the "new classes" or "other classes": in the given `gallery` (None
    for new classes, which it lacks), with the support images `added`, and `adapted`."""

    queries: str
    count: int
    gallery: float | None
    added: float
    adapted: float


@dataclass(frozen=True)
class GalleryResult:
    """The effect of adding new classes to a gallery."""

    rows: tuple[GalleryRecall, ...]
    notes: tuple[str, ...]


def add_to_gallery(
    model: Embedder,
    support: ImageSet,
    query: ImageSet,
    gallery: ImageSet,
    settings: AdaptSettings | None = None,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> tuple[Embedder, GalleryResult]:
    """Add support images of new classes to a gallery, and adapt the last layer to both.

    The gallery's classes are the negatives, so a single new class is enough. Gallery images are
    used in their test view, support images in augmented views. Query images that are also in the
    support or the gallery are left out, with a note.
    """
    settings = settings or AdaptSettings()
    if settings.layers == "all":
        problem = 'layers = "all" cannot be combined with a gallery; use layers = "last"'
        raise OodmlError(problem, "layers", "all", ("last",))
    resolved = resolve_device(device)
    new, old, searched = (
        backbone_features(images, model, device=resolved) for images in (support, gallery, query)
    )
    others = {"support": (support, new), "gallery": (gallery, old)}
    query, searched, notes = leave_out_copies(query, searched, others)
    known = np.isin(query.classes, [*support.class_names, *gallery.class_names])
    if not known.all():
        unknown = np.unique(query.classes[~known]).tolist()
        if not known.any():
            problem = f"no query class ({unknown[0]!r}, …) is in the support or the gallery"
            allowed = sorted({*support.class_names, *gallery.class_names})
            raise OodmlError(problem, "query", unknown[0], allowed)
        left_out = "queries of classes in neither support nor gallery are left out"
        notes = (*notes, f"{left_out}: {list_some(unknown)}")
        query, searched = query.select(known), searched[known]
    start = heads_of(model.head, new.shape[1])
    views = view_features(support, model, settings, seed, resolved)
    if views is not None:  # the test view of a gallery image stands for all its views
        tests = torch.from_numpy(old)[:, None].expand(-1, settings.views, -1)
        views |= dict(enumerate(tests, len(views)))
    rows = torch.from_numpy(np.concatenate([new, old])).to(resolved)
    members = rows_by_class(support)
    for name, own in rows_by_class(gallery, len(support)).items():
        members[name] = members.get(name, []) + own
    adapted = fit_heads(rows, [members], start.to(resolved), settings, views, seed)
    adapted = adapted.to(torch.device("cpu"))
    given = old, gallery.classes
    added = np.concatenate([old, new]), np.concatenate([gallery.classes, support.classes])
    is_new = ~np.isin(query.classes, gallery.class_names)
    recalls = []
    for name, chosen in (("new classes", is_new), ("other classes", ~is_new)):
        if chosen.any():
            queries = searched[chosen], query.classes[chosen]
            before = None if name == "new classes" else _recall(queries, given, start)
            after = _recall(queries, added, start), _recall(queries, added, adapted)
            recalls.append(GalleryRecall(name, int(chosen.sum()), before, *after))
    embedder = Embedder(model.settings, adapted.module(model.head), model.backbone).eval()
    return embedder, GalleryResult(tuple(recalls), notes)


@torch.no_grad()
def _recall(queries: _Images, gallery: _Images, head: Heads) -> float:
    near, far = (head.embed(torch.from_numpy(x)[None])[0].numpy() for x, _ in (queries, gallery))
    metrics = retrieval_metrics(near, queries[1], ks=(1,), gallery=far, gallery_labels=gallery[1])
    return float(metrics["recall@1"])
