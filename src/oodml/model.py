"""The model that is trained: a backbone, pooling, and a head."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from oodml.backbones import Backbone, load_backbone
from oodml.errors import OodmlError
from oodml.files import replacing, write_text
from oodml.images.transforms import Augmentation


def _side_or_word(value: object) -> object:
    if value in ("auto", "off") or (type(value) is int and value >= 16):
        return value
    raise PydanticCustomError("input_cache", '"auto", "off" or pixels, 16 or more, are expected')


InputCache = Annotated[
    Annotated[int, Field(ge=16)] | Literal["auto", "off"], BeforeValidator(_side_or_word)
]


class ModelSettings(BaseModel):
    """What is trained, and on what input.

    backbone: a name of `names("backbones")` or of a timm network, or an import path.
    weights: a local file instead of the backbone's own weights; "none" for untrained ones.
    mode: "head" trains one layer on features embedded once, "finetune" the whole network.
    dim: of the embedding. normalize: to length one.
    pooling: of the feature map; "avg+max" is the sum of both.
    image_size: pixels of the square input; None is the backbone's own.
    augmentation: the pair of train and test transforms, see `oodml.images.transforms.RECIPES`.
    views: augmented views of every image that are embedded once, in head mode.
    freeze_batch_norm: keep its statistics; its scale and shift still train.
    input_cache: in finetune mode, the short side in pixels that larger images on disk are brought
        to once and kept at; "auto" is what the augmentation needs, "off" reads the files anew.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "lite0"
    weights: str | None = None
    mode: Literal["head", "finetune"] = "head"
    dim: int = Field(128, ge=1)
    normalize: bool = True
    pooling: Literal["avg", "max", "avg+max"] = "avg"
    image_size: int | None = Field(None, ge=8)
    augmentation: Augmentation = "base"
    views: int = Field(4, ge=1)
    freeze_batch_norm: bool = True
    input_cache: InputCache = "auto"


HEADS = ("oodml.model:LinearHead", "oodml.model:IdentityHead", "oodml.methods.diva:Head")
"""The heads that a run folder may name."""

Outputs = dict[str, Float[Tensor, "n _"]]


@runtime_checkable
class Head(Protocol):
    """From pooled features to embeddings."""

    def __call__(self, features: Tensor) -> Outputs:
        """Every output by name; the embedding that is trained is called "embedding"."""

    def embed(self, features: Tensor) -> Tensor:
        """The embedding to test with."""


class LinearHead(nn.Module):
    """One linear layer, its output scaled to length one unless `normalize` is off."""

    def __init__(self, features: int, dim: int, normalize: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(features, dim)
        self.normalize = normalize

    def forward(self, features: Float[Tensor, "n f"]) -> Outputs:
        return {"embedding": self.embed(features)}

    def embed(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        found: Tensor = self.linear(features)
        return nn.functional.normalize(found, dim=1) if self.normalize else found


class IdentityHead(nn.Module):
    """The features themselves, scaled to length one unless `normalize` is off: nothing trains."""

    def __init__(self, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, features: Float[Tensor, "n f"]) -> Outputs:
        return {"embedding": self.embed(features)}

    def embed(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        return nn.functional.normalize(features, dim=1) if self.normalize else features


class Embedder(nn.Module):
    """Images in, embeddings out: backbone, pooling, head.

    The backbone is made when it is first needed: a head that trains on cached features, or is
    adapted on them, needs none. seed: of its weights, if they are untrained.
    """

    def __init__(self, settings: ModelSettings, head: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.settings = settings
        self.seed = seed
        self.head = head

    @property
    def backbone(self) -> Backbone:
        if "trunk" not in self._modules:
            self._make_trunk(self.settings.weights)
        return self.trunk

    def _make_trunk(self, weights: str | None) -> None:
        place = next((p.device for p in self.head.parameters()), torch.device("cpu"))
        with torch.inference_mode(False):  # its parameters may have to train later
            made = load_backbone(self.settings.backbone, weights, self.seed)
        self.trunk = made.to(place)
        self.train(self.training)

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Load the state of `trained`. The weights that a fine-tuning began from aren't needed."""
        if self.settings.mode == "finetune" and "trunk" not in self._modules:
            self._make_trunk("none")
        self.trained.load_state_dict(state)

    @property
    def trained(self) -> nn.Module:
        """What trains and is saved: in head mode the head, else all."""
        return self.head if self.settings.mode == "head" else self.with_backbone()

    @property
    def image_size(self) -> int:
        """Pixels of the square input."""
        return self.settings.image_size or self.backbone.image_size

    def forward(self, images: Tensor) -> Float[Tensor, "n d"]:
        """Embeddings [n d] of images [n 3 h w], uint8 or floating in [0, 1]."""
        return self.head.embed(self.features(images))  # type: ignore[no-any-return,operator]

    def features(self, images: Tensor) -> Float[Tensor, "n f"]:
        """The pooled, un-normalised features that the head stands on."""
        return pooled(self.feature_map(images), self.settings.pooling)

    def feature_map(self, images: Tensor) -> Float[Tensor, "n c rows columns"]:
        """What the backbone gives."""
        return self.backbone.to(images.device)(as_floats(images))  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> "Embedder":
        """As usual, but frozen batch norms stay as they are."""
        super().train(mode)
        if mode and self.settings.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def save(self, folder: Path) -> None:
        """Write model.safetensors and model.json; head mode keeps the head only."""
        from safetensors.torch import save_file

        state = self.trained.state_dict()
        described = {"settings": self.settings.model_dump(), "head": head_description(self.head)}
        with replacing(folder / "model.safetensors") as path:
            save_file({key: value.contiguous() for key, value in state.items()}, path)
        write_text(folder / "model.json", json.dumps(described, indent=1))

    def with_backbone(self) -> "Embedder":
        """The model, its backbone made: its weights are part of the state from then on."""
        assert self.backbone is self.trunk
        return self


def as_floats(images: Tensor) -> Float[Tensor, "n 3 h w"]:
    """Images in [0, 1], from uint8 or already so."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def pooled(feature_map: Float[Tensor, "n c rows columns"], pooling: str) -> Float[Tensor, "n c"]:
    """The mean over places, the maximum, or the sum of both."""
    if pooling == "avg":
        return feature_map.mean((2, 3))
    if pooling == "max":
        return feature_map.amax((2, 3))
    return feature_map.mean((2, 3)) + feature_map.amax((2, 3))


def head_description(head: nn.Module) -> dict[str, object]:
    """What is needed to make the head again, as JSON values.

    A head of a method's own tells it through attributes `kind` (an import path) and `options`.
    """
    if isinstance(head, LinearHead):
        linear = head.linear
        sizes = {"features": linear.in_features, "dim": linear.out_features}
        return {"kind": "oodml.model:LinearHead", **sizes, "normalize": head.normalize}
    if isinstance(head, IdentityHead):
        return {"kind": "oodml.model:IdentityHead", "normalize": head.normalize}
    options = getattr(head, "options", None)
    if options is None:
        raise OodmlError(f"head {type(head).__name__} has no `options` to be saved with")
    kind = type(head)
    return {"kind": f"{kind.__module__}:{kind.__qualname__}", **options}


def load_model(run_folder: str | Path, trust_code: bool = False) -> Embedder:
    """The trained model of a run folder (model.json, model.safetensors), ready to embed.

    Only heads of this library are made again by name, and a head or backbone of the user's own,
    which would be imported, is refused: a run folder that came from elsewhere cannot run code.
    trust_code: import them all the same.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(run_folder)
    description = folder / "model.json"
    if not description.exists():
        raise OodmlError(f"{folder}: not a run folder (it has no model.json)")
    try:
        described = json.loads(description.read_text(encoding="utf-8"))
        embedder = described_model(described, description, trust_code)
        embedder.load_trained(load_file(folder / "model.safetensors"))
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise OodmlError(f"{folder}: the model cannot be loaded: {error}") from error
    return embedder.eval()


def described_model(
    described: Mapping[str, Any], place: str | Path, trust_code: bool = False
) -> Embedder:
    """The model that `settings` and `head` describe, its head's weights still untrained.

    place: the file they stood in, for errors. trust_code: as in `load_model`.
    """
    from oodml import catalog

    settings = ModelSettings.model_validate(described["settings"])
    options = dict(described["head"])
    kind = str(options.pop("kind"))
    trust = "if you trust it, say trust_code=True (--trust-code)"
    if kind not in HEADS and not trust_code:
        raise OodmlError(f"{place}: head {kind!r} is not one of {', '.join(HEADS)}; {trust}")
    if ":" in settings.backbone and not trust_code:
        raise OodmlError(
            f"{place}: loading would import the backbone {settings.backbone!r}; {trust}"
        )
    return Embedder(settings, catalog.find("heads", kind)(**options))
