"""Add new classes to a gallery: what happens to the queries of the new and of the other classes?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from oodml.adaptation.episodes import fit_heads
from oodml.adaptation.heads import Heads, heads_of
from oodml.adaptation.images import leave_out_copies, rows_by_class, view_features
from oodml.adaptation.settings import AdaptSettings
from oodml.arrays import Names
from oodml.devices import resolve_device
from oodml.embedding import backbone_features
from oodml.errors import OodmlError
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.images.image_set import ImageSet
from oodml.model import Embedder


@dataclass(frozen=True)
class GalleryRecall:
    """Recall@1 of some queries.

    Attributes:
        queries: "new classes" or "other classes".
        gallery: in the given gallery; None for new classes, which it does not contain.
        added: in the gallery with the support images added, under the given model.
    """

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

    Args:
        query: images of new and known classes to search for.
    """
    settings = settings or AdaptSettings()
    if settings.layers == "all":
        problem = 'layers = "all" cannot be combined with a gallery; use layers = "last"'
        raise OodmlError(problem, "layers", "all", ("last",))
    resolved = resolve_device(device)
    features = {
        name: backbone_features(images, model, device=resolved)
        for name, images in (("support", support), ("gallery", gallery), ("query", query))
    }
    others = {"support": (support, features["support"]), "gallery": (gallery, features["gallery"])}
    query, features["query"], notes = leave_out_copies(query, features["query"], others)
    query, features["query"], unknown = _leave_out_unknown(
        query, features["query"], {*support.class_names, *gallery.class_names}
    )
    search = _Search(
        torch.from_numpy(features["support"]),
        torch.from_numpy(features["gallery"]),
        torch.from_numpy(features["query"]),
        support.classes,
        gallery.classes,
        query.classes,
    )
    start = heads_of(model.head, search.support.shape[1])
    views = view_features(support, model, settings, seed, resolved)
    adapted = search.fit(start.to(resolved), _members(support, gallery), settings, views, seed)
    is_new = ~np.isin(query.classes, gallery.class_names)
    rows = tuple(
        search.recall(name, chosen, start, adapted)
        for name, chosen in (("new classes", is_new), ("other classes", ~is_new))
        if chosen.any()
    )
    head = adapted.module(model.head)
    embedder = Embedder(model.settings, head, model.backbone).eval()
    return embedder, GalleryResult(rows, (*notes, *unknown))


def _leave_out_unknown(
    query: ImageSet, features: Float[np.ndarray, "n f"], known: set[str]
) -> tuple[ImageSet, Float[np.ndarray, "q f"], tuple[str, ...]]:
    """The queries of known classes, their features, and a note about the others."""
    unknown = [name for name in query.class_names if name not in known]
    if not unknown:
        return query, features, ()
    if len(unknown) == len(query.class_names):
        problem = f"no query class ({unknown[0]!r}, …) is in the support or the gallery"
        raise OodmlError(problem, "query", unknown[0], sorted(known))
    rows = np.isin(query.classes, list(known))
    named = ", ".join(map(repr, unknown[:5])) + (", …" if len(unknown) > 5 else "")
    note = f"queries of classes in neither support nor gallery are left out: {named}"
    return query.select(rows), features[rows], (note,)


@dataclass(frozen=True)
class _Search:
    support: Float[torch.Tensor, "s f"]
    gallery: Float[torch.Tensor, "g f"]
    query: Float[torch.Tensor, "q f"]
    support_classes: Names
    gallery_classes: Names
    query_classes: Names

    def fit(
        self,
        start: Heads,
        members: dict[str, list[int]],
        settings: AdaptSettings,
        views: dict[int, Float[torch.Tensor, "v f"]] | None,
        seed: int,
    ) -> Heads:
        """The head adapted to the support and the gallery."""
        if views is not None:  # the test view of a gallery image stands for all its views
            first = len(views)
            views = views | {
                first + row: one.expand(settings.views, -1) for row, one in enumerate(self.gallery)
            }
        features = torch.cat([self.support, self.gallery]).to(start.weight.device)
        heads = fit_heads(features, [members], start, settings, views, seed)
        return heads.to(torch.device("cpu"))

    def recall(
        self, name: str, chosen: Bool[np.ndarray, " q"], start: Heads, adapted: Heads
    ) -> GalleryRecall:
        """Recall@1 of the chosen queries before and after."""
        known = name != "new classes"
        return GalleryRecall(
            name,
            int(chosen.sum()),
            self._recall(chosen, start, added=False) if known else None,
            self._recall(chosen, start, added=True),
            self._recall(chosen, adapted, added=True),
        )

    def _recall(self, chosen: Bool[np.ndarray, " q"], head: Heads, added: bool) -> float:
        parts = [self.gallery, *([self.support] if added else [])]
        names = [self.gallery_classes, *([self.support_classes] if added else [])]
        with torch.no_grad():
            queries, gallery = (
                head.embed(rows[None])[0].numpy()
                for rows in (self.query[torch.from_numpy(chosen)], torch.cat(parts))
            )
        metrics = retrieval_metrics(
            queries,
            self.query_classes[chosen],
            ks=(1,),
            gallery=gallery,
            gallery_labels=np.concatenate(names),
        )
        return float(metrics["recall@1"])


def _members(support: ImageSet, gallery: ImageSet) -> dict[str, list[int]]:
    """The rows of each class among the support images followed by the gallery images."""
    members = rows_by_class(support)
    for name, rows in rows_by_class(gallery, len(support)).items():
        members[name] = members.get(name, []) + rows
    return members
