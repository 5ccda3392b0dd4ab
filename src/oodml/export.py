"""A whole model as one file: ONNX, for any runtime, or safetensors, for this library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodml import __version__
from oodml.errors import OodmlError
from oodml.files import replacing
from oodml.images.pixel_cache import input_short
from oodml.images.transforms import recipe
from oodml.model import (
    Embedder,
    IdentityHead,
    ModelSettings,
    described_model,
    head_description,
    load_model,
    pooled,
)
from oodml.randomness import generator

TOLERANCE = 1e-4
"""The largest difference between ONNX and model, of embeddings of length one."""
NEEDS = "ONNX needs some more packages: pip install 'oodml[onnx]'"


class Network(nn.Module):
    """What is exported: from images [n 3 h w] in [0, 1] to embeddings [n d]."""

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        self.trunk = model.backbone
        self.head = model.head
        self.pooling = model.settings.pooling

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        features = pooled(self.trunk(images), self.pooling)
        return self.head.embed(features)  # type: ignore[no-any-return,operator]


def exportable(name: str | Path, trust_code: bool = False) -> tuple[Embedder, dict[str, str]]:
    """The model of a run, of `oodml adapt`, or of a backbone's name; and what to say of it.

    A plain backbone gives its pooled, un-normalised features, as `oodml embed` does.
    """
    folder = Path(name)
    if folder.is_dir():
        model = load_model(folder, trust_code)
    elif len(folder.parts) > 1:
        raise OodmlError(f"{folder}: no such folder of a model")
    else:
        plain = {"backbone": str(name), "mode": "finetune", "input_cache": "off"}
        settings = ModelSettings.model_validate(plain)
        model = Embedder(settings, IdentityHead(normalize=False)).eval()
    return model, description(model, _record(folder))


def description(model: Embedder, record: Mapping[str, Any]) -> dict[str, str]:
    """What a file says of its model, all as text. record: the run's settings, if it is one."""
    settings = model.settings
    side = _side(model)
    said = {
        "oodml": __version__,
        "backbone": settings.backbone,
        "pooling": settings.pooling,
        "image_size": side,
        "dim": _outputs(model),
        "images": f"float32 [n, 3, {side}, {side}], red green blue, 0 … 1, not normalised",
        "test_transform": _transform(model),
        "settings": settings.model_dump_json(),
    }
    names = {"run": "id", "data": "data", "fingerprint": "fingerprint", "split": "split"}
    names |= {"method": "method", "seed": "seed"}
    said |= {name: record[key] for name, key in names.items() if key in record}
    return {name: str(value) for name, value in said.items()}


def export_onnx(model: Embedder, file: str | Path, said: Mapping[str, str]) -> float:
    """Write ONNX, its batch size free; gives the largest difference to the model.

    It is run by onnxruntime on two batches of random images; if it differs from the model by
    `TOLERANCE` (of the longest embedding, where they are longer than one), nothing is left.
    """
    network, side = Network(model).eval(), _side(model)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter's own
    except ImportError as error:
        raise OodmlError(f"{NEEDS} ({error})") from error
    example = torch.rand(2, 3, side, side, generator=generator(0, "export"))
    with replacing(file) as path:
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["embedding"],
                dynamic_shapes={"images": {0: "n"}},
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise OodmlError(
                f"{model.settings.backbone}: cannot be written as ONNX: {reason}"
            ) from error
        assert program is not None
        program.model.metadata_props.update(said)
        program.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return _difference(network, session, side, Path(file))


def _difference(network: Network, session: Any, side: int, file: Path) -> float:
    largest = 0.0
    for n in (1, 5):
        images = torch.rand(n, 3, side, side, generator=generator(n, "export"))
        with torch.inference_mode():
            expected = network(images)
        found = torch.from_numpy(session.run(["embedding"], {"images": images.numpy()})[0])
        length = max(1.0, float(expected.norm(dim=1).max()))
        largest = max(largest, float((found - expected).abs().max()) / length)
    if not largest < TOLERANCE:
        raise OodmlError(
            f"{file}: onnxruntime gives embeddings that differ by {largest:.1e}; less than "
            f"{TOLERANCE:.0e} is allowed, so the file is not kept"
        )
    return largest


def export_safetensors(model: Embedder, file: str | Path, said: Mapping[str, str]) -> None:
    """Write every tensor of the model, backbone included; `load_exported` reads it.

    Metadata `model` is JSON: `settings` and `head`, as in a run's model.json.
    """
    from safetensors.torch import save_file

    whole = model.with_backbone()
    settings = model.settings.model_copy(
        update={
            "weights": "none",
            "mode": "finetune",
            "image_size": model.image_size,
            "input_cache": "off" if model.settings.mode == "head" else model.settings.input_cache,
        }
    )
    described = {"settings": settings.model_dump(), "head": head_description(model.head)}
    state = {key: value.contiguous() for key, value in whole.state_dict().items()}
    state |= {f"input.{name}": getattr(model.backbone, name).contiguous() for name in _INPUT}
    metadata = {**said, "model": json.dumps(described)}
    with replacing(file) as path:
        save_file(state, path, metadata=metadata)


_INPUT = ("mean", "std")


def load_exported(file: str | Path, trust_code: bool = False) -> Embedder:
    """The model of a file that `export_safetensors` wrote, ready to embed; needs no other file.

    trust_code: as in `load_model`.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(file, framework="pt") as opened:
            described = json.loads((opened.metadata() or {})["model"])
        model = described_model(described, file, trust_code).with_backbone()
        state = load_file(file)
        for name in _INPUT:
            getattr(model.backbone, name).copy_(state.pop(f"input.{name}"))
        model.load_state_dict(state)
    except KeyError as error:
        raise OodmlError(f"{file}: not a model that oodml exported (it has no {error})") from error
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise OodmlError(f"{file}: the model cannot be loaded: {error}") from error
    return model.eval()


def _record(folder: Path) -> Mapping[str, Any]:
    file = folder / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _side(model: Embedder) -> int:
    """Pixels of the square input under the test transform."""
    return round(model.image_size * recipe(model.settings.augmentation).enlarge)


def _outputs(model: Embedder) -> int:
    side = _side(model)
    with torch.inference_mode():
        return int(Network(model).eval()(torch.zeros(1, 3, side, side)).shape[1])


def _transform(model: Embedder) -> str:
    """The test transform in words, from the file of an image on."""
    name, side = model.settings.augmentation, _side(model)
    kept = input_short(model.settings)
    first = f"images with a short side above {kept} are brought to {kept}; then " if kept else ""
    if recipe(name).whole:
        return f"{name}: {first}the whole image resized to {side}×{side}, bilinear"
    short = round(model.image_size * 256 / 224)
    return (
        f"{name}: {first}the short side resized to {short}, bilinear; then the centre {side}×{side}"
    )
