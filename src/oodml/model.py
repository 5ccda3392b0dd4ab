"""The model that is trained: a backbone, pooling, and a head."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from oodml.backbones import Backbone, Pooling, is_user_code, load_backbone
from oodml.backbones import pool_features as pool_features
from oodml.errors import OodmlError, error_at
from oodml.files import replacing, write_text
from oodml.hub import download, is_hub_address, parse_address
from oodml.images.transforms import Augmentation


def _check_input_cache(value: object) -> object:
    if value in ("auto", "off") or (type(value) is int and value >= 16):
        return value
    raise PydanticCustomError("input_cache", 'expected "auto", "off", or at least 16 pixels')


Pixels = Annotated[int, Field(ge=16)]
InputCache = Annotated[Pixels | Literal["auto", "off"], BeforeValidator(_check_input_cache)]
Tune = Annotated[str, Field(pattern=r"^(head|norm|last:[1-9]\d*|lora|full)$")]


class LoraSettings(BaseModel):
    """Settings of LoRA adapters (Hu et al. 2022, arXiv 2106.09685).

    Attributes:
        rank, alpha: rank of the update of a weight matrix, which is scaled by alpha / rank.
        targets: ends of the names of the adapted layers, such as "qkv"; by default the attention
            and MLP layers of transformers and ConvNeXt, and all convolutions but the first of
            other networks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    targets: tuple[str, ...] = ()


class CommonSettings(BaseModel):
    """Model settings of both modes; see `ModelTable`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "lite0"
    weights: str | None = None
    dim: int = Field(128, ge=1, le=2**16)
    normalize: bool = True
    pooling: Pooling = "model"
    image_size: int | None = Field(None, ge=8)
    augmentation: Augmentation = "model"


class HeadSettings(CommonSettings):
    """Settings of a head trained on cached features of a frozen backbone."""

    mode: Literal["head"] = "head"
    views: int = Field(4, ge=1)


class FinetuneSettings(CommonSettings):
    """Settings of a network trained as a whole, on images."""

    mode: Literal["finetune"] = "finetune"
    tune: Tune = "full"
    lora: LoraSettings = LoraSettings.model_validate({})
    freeze_batch_norm: bool = True
    input_cache: InputCache = "auto"


class ModelTable(HeadSettings, FinetuneSettings):
    """The keys of the table `[model]` in a study file.

    Attributes:
        backbone: a name from `oodml.names("backbones")`, a timm network, or an import path.
        weights: a local file instead of the pretrained weights; "none" for untrained weights.
        mode: "head" trains one layer on cached features; "finetune" trains the whole network.
        dim: dimension of the embedding.
        normalize: whether embeddings are scaled to unit length.
        pooling: "model" is the embedding that the network's authors deploy ("avg" for backbones
            of oodml itself); "cls" is the class token, "cls+avg" the concatenation with the mean
            of the other tokens, "avg+max" the sum of both, and "gem" the generalized mean.
        image_size: side of the square input in pixels; by default the backbone's own.
        augmentation: the training and test transforms, from `oodml.images.transforms.RECIPES`.
            "model" tests with the transform of the network's authors and trains like "base".
        views: in head mode, the number of augmented views of each image that are embedded.
        tune: in finetune mode, what trains besides the head: "head" nothing, "norm" the scale and
            shift of normalization layers, "last:N" the last N layers (blocks), "lora" adapters
            that are merged after training, "full" everything.
        lora: the adapters; see `LoraSettings`.
        freeze_batch_norm: in finetune mode, keep the running statistics of batch norm; scale and
            shift still train.
        input_cache: in finetune mode, the short side in pixels that larger images are cached at;
            "auto" is what the augmentation needs, "off" decodes the original files every epoch.
    """

    mode: Literal["head", "finetune"] = "head"  # type: ignore[assignment]


ModelSettings = Annotated[HeadSettings | FinetuneSettings, Field(discriminator="mode")]
"""What is trained, and on which input: `HeadSettings` or `FinetuneSettings`."""


def keys_of_other_mode(mode: str) -> set[str]:
    """The keys of `ModelTable` that do not apply in this mode."""
    own = FinetuneSettings if mode == "finetune" else HeadSettings
    return ModelTable.model_fields.keys() - own.model_fields.keys()


def parse_model_settings(values: Mapping[str, Any]) -> ModelSettings:
    """Model settings from the values of `ModelTable`, without the keys of the other mode."""
    mode = values.get("mode", "head")
    own = {key: values[key] for key in values if key not in keys_of_other_mode(mode)}
    kind = FinetuneSettings if mode == "finetune" else HeadSettings
    return kind.model_validate(own | {"mode": mode})


def finetune_settings(settings: ModelSettings) -> FinetuneSettings:
    """The settings as those of a whole network. A head-mode model reads the original images."""
    if isinstance(settings, FinetuneSettings):
        return settings
    common = settings.model_dump(include=set(CommonSettings.model_fields))
    return FinetuneSettings(**common, input_cache="off")


HEADS = (
    "oodml.model:LinearHead",
    "oodml.model:IdentityHead",
    "oodml.methods.diva:Head",
    "oodml.methods.criterion:PoincareHead",
)
"""The heads that `load_model` imports without `trust_code`."""


class _NormalizingHead(nn.Module):
    def __init__(self, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize
        self.options: dict[str, Any] = {"normalize": normalize}

    def forward(self, features: Float[Tensor, "n f"]) -> dict[str, Float[Tensor, "n _"]]:
        return {"embedding": self.embed(features)}

    def embed(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        return nn.functional.normalize(features, dim=1) if self.normalize else features


class IdentityHead(_NormalizingHead):
    """A head without parameters: the embeddings are the features [n f].

    Args:
        normalize: whether embeddings are scaled to unit length.
    """


class LinearHead(_NormalizingHead):
    """One linear layer, from features [n f] to embeddings [n d]; `normalize` as above."""

    def __init__(self, features: int, dim: int, normalize: bool = True) -> None:
        super().__init__(normalize)
        self.linear = nn.Linear(features, dim)
        self.options = {"features": features, "dim": dim, "normalize": normalize}

    def embed(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        return super().embed(self.linear(features))


class Embedder(nn.Module):
    """A model from images to embeddings: backbone, pooling, head.

    Args:
        settings: the model's settings.
        head: a module from features [n f] to outputs [n _] by name, of which "embedding" is
            trained, with a method `embed` from features to embeddings [n d] for evaluation.
        backbone: the network below the head, unless only the head is used, on cached features.
    """

    def __init__(
        self, settings: ModelSettings, head: nn.Module, backbone: Backbone | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.backbone: Backbone | None
        self.register_module("backbone", backbone)
        self.head = head

    def __repr__(self) -> str:
        head = type(self.head).__name__
        return f"Embedder: {self.settings.backbone}, pooling {self.settings.pooling}, {head}"

    def require_backbone(self) -> Backbone:
        """The backbone; OodmlError if the model was built without one."""
        if self.backbone is None:
            missing = f"load_backbone({self.settings.backbone!r})"
            raise OodmlError(f"the model has no backbone: pass {missing} to Embedder", "backbone")
        return self.backbone

    @property
    def trained(self) -> nn.Module:
        """The module that is trained and saved: the head in head mode, else the whole model."""
        return self.head if isinstance(self.settings, HeadSettings) else self

    @property
    def trained_backbone(self) -> Backbone | None:
        """The backbone if it is trained, else None."""
        return None if isinstance(self.settings, HeadSettings) else self.backbone

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.settings.image_size or self.require_backbone().image_size

    def forward(self, images: Tensor) -> Float[Tensor, "n d"]:
        """The embeddings [n d] of images [n 3 h w], uint8 or floating point in [0, 1]."""
        return self.head.embed(self.features(images))  # type: ignore[no-any-return,operator]

    def features(self, images: Tensor) -> Float[Tensor, "n f"]:
        """The pooled, unnormalized features [n f] that the head is applied to."""
        pooling = self.settings.pooling
        return self.require_backbone().pooled(to_float(images), (pooling,))[pooling]

    def train(self, mode: bool = True) -> "Embedder":
        """Set the training mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        frozen = isinstance(self.settings, HeadSettings) or self.settings.freeze_batch_norm
        if mode and frozen:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def save(self, folder: Path) -> None:
        """Write model.safetensors and model.json; in head mode only the head's weights."""
        from safetensors.torch import save_file

        with replacing(folder / "model.safetensors") as path:
            save_file({k: v.contiguous() for k, v in self.trained.state_dict().items()}, path)
        write_text(folder / "model.json", json.dumps(describe_model(self), indent=1))


def frozen_model(backbone: str, weights: str | None = None, *, normalize: bool) -> Embedder:
    """A backbone, as in `load_backbone`, as a model whose embeddings are the pooled features."""
    settings = parse_model_settings({"backbone": backbone, "weights": weights})
    return Embedder(settings, IdentityHead(normalize), load_backbone(backbone, weights)).eval()


def open_model(
    name: str | Path, weights: str | None = None, trust_code: bool = False, *, normalize: bool
) -> Embedder:
    """The trained model in a folder or on the hub, or a backbone; see `frozen_model`."""
    if not Path(name).is_dir() and not is_hub_address(name):
        return frozen_model(str(name), weights, normalize=normalize)
    if weights is not None:
        problem = f"weights {weights!r} apply to a backbone; the trained model {name} has its own"
        raise OodmlError(problem, "--weights", weights)
    return load_model(name, trust_code)


def to_float(images: Tensor) -> Float[Tensor, "n 3 h w"]:
    """Images as floating-point numbers in [0, 1]; floating-point images are returned unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def describe_model(model: Embedder, settings: ModelSettings | None = None) -> dict[str, Any]:
    """What `build_model` needs: settings (by default the model's), and the head's arguments."""
    kind, options = type(model.head), getattr(model.head, "options", None)
    if options is None:
        problem = "to be saved, a head needs an attribute `options`, the arguments of __init__"
        raise error_at(kind.__name__, problem)
    head = {"kind": f"{kind.__module__}:{kind.__qualname__}", **options}
    return {"settings": (settings or model.settings).model_dump(), "head": head}


def load_model(run_folder: str | Path, trust_code: bool = False) -> Embedder:
    """Load a trained model with its backbone, in evaluation mode.

    Args:
        run_folder: a folder with model.json and model.safetensors, such as a run of a study, or
            "hf://user/name", which is downloaded from the Hugging Face hub.
        trust_code: import the user code that model.json names. By default only heads and
            backbones of oodml are imported: a folder from another source cannot run code.

    Raises:
        OodmlError: if the folder is not a model's, is damaged, or names user code.
    """
    from safetensors.torch import load_file

    if is_hub_address(run_folder):
        files = ("model.json", "model.safetensors")
        run_folder = download(parse_address(run_folder), "model", files)
    folder = Path(run_folder)
    file = folder / "model.json"
    if not file.exists():
        raise error_at(folder, "not a run folder (no model.json)")
    with reading_model(folder):
        model = build_model(json.loads(file.read_text(encoding="utf-8")), file, trust_code)
        model.trained.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


@contextmanager
def reading_model(path: str | Path) -> Iterator[None]:
    """Turn the exceptions that a damaged model file causes into an OodmlError with its path."""
    try:
        yield
    except OodmlError:
        raise
    except Exception as error:  # damaged files raise many types of exceptions
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise error_at(path, f"cannot load the model: {reason}") from error


def build_model(
    description: Mapping[str, Any], location: str | Path, trust_code: bool = False
) -> Embedder:
    """Build a model from `describe_model`, without the weights of its saved state; the location, a
    file, starts error messages."""
    from oodml import catalog

    settings, options = parse_model_settings(description["settings"]), dict(description["head"])
    kind = str(options.pop("kind"))
    for part, name, unknown in (
        ("backbone", settings.backbone, is_user_code(settings.backbone)),
        ("head", kind, kind not in HEADS),
    ):
        if unknown and not trust_code:
            problem = f"the model uses code outside oodml ({part} {name})"
            remedy = "If you trust it, pass trust_code=True (--trust-code)."
            raise error_at(location, f"{problem}. {remedy}", name, HEADS)
    weights = "none" if isinstance(settings, FinetuneSettings) else settings.weights
    head = catalog.import_object(kind)(**options)
    backbone = load_backbone(settings.backbone, weights, trust_code=trust_code)
    return Embedder(settings, head, backbone)
