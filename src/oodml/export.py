"""Writing a whole model to one file: ONNX for any runtime, or safetensors for oodml."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodml import __version__
from oodml.backbones import resolve_defaults
from oodml.errors import OodmlError, error_at, require
from oodml.files import replacing
from oodml.images.transforms import recipe
from oodml.model import (
    Embedder,
    build_model,
    describe_model,
    finetune_settings,
    open_model,
    reading_model,
)
from oodml.model_input import input_short
from oodml.randomness import generator

TOLERANCE = 1e-4
"""The largest allowed difference between ONNX and model, for embeddings of unit length."""
_INPUT_BUFFERS = ("mean", "std")
"""The buffers of a backbone that its state does not contain."""


class ExportedNetwork(nn.Module):
    """The network in an exported file: from images [n 3 h w] in [0, 1] to embeddings [n d]."""

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        self.backbone, self.head = model.require_backbone(), model.head
        self.pooling = model.settings.pooling

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        features = self.backbone.pooled(images, (self.pooling,))[self.pooling]
        return self.head.embed(features)  # type: ignore[no-any-return,operator]


def load_for_export(
    name: str | Path, trust_code: bool = False, weights: str | None = None
) -> tuple[Embedder, dict[str, str]]:
    folder = Path(name)
    if len(folder.parts) > 1 and ":" not in str(name) and not folder.is_dir():
        raise error_at(folder, "no such folder")
    model, run = open_model(name, weights, trust_code, normalize=False), folder / "run.json"
    with reading_model(run):
        values = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {}
        return model, model_metadata(model, values)


def model_metadata(model: Embedder, run: Mapping[str, Any]) -> dict[str, str]:
    settings, side = model.settings, _input_side(model)
    with torch.inference_mode():
        network = ExportedNetwork(model.cpu()).eval()
        dim = network(torch.zeros(1, 3, side, side)).shape[1]
    metadata = {
        **{"oodml": __version__, "backbone": settings.backbone, "pooling": settings.pooling},
        **{"image_size": side, "dim": dim},
        "images": f"float32 [n, 3, {side}, {side}], RGB, in [0, 1], not normalized",
        "test_transform": _describe_transform(model),
        "settings": settings.model_dump_json(),
    }
    metadata |= {"run": run["id"]} if "id" in run else {}
    keys = ("data", "fingerprint", "split", "method", "seed")
    metadata |= {key: run[key] for key in keys if key in run}
    return {name: str(value) for name, value in metadata.items()}


def export_onnx(model: Embedder, file: str | Path, metadata: Mapping[str, str]) -> float:
    """Write a model as ONNX with a variable batch size; onnxruntime must give equal embeddings.

    Returns the largest difference, relative to the longest embedding where that exceeds 1.
    """
    onnxruntime = require("onnx", "onnxruntime", "onnxscript")  # the exporter imports the second
    network = ExportedNetwork(model.cpu()).eval()
    with replacing(file) as path:
        program = _onnx_program(network, _input_side(model), model.settings.backbone)
        program.model.metadata_props.update(metadata)
        program.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return _check_agreement(network, session, _input_side(model), Path(file))


def _onnx_program(network: ExportedNetwork, side: int, backbone: str) -> Any:
    example = torch.rand(2, 3, side, side, generator=generator(0, "export"))
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["embedding"]}
    names["dynamic_shapes"] = {"images": {0: "n"}}
    try:
        return torch.onnx.export(network, (example,), dynamo=True, verbose=False, **names)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        problem = f"{backbone}: could not export to ONNX: {reason}"
        raise OodmlError(problem, location="onnx", given=backbone) from error


def _check_agreement(network: ExportedNetwork, session: Any, side: int, file: Path) -> float:
    """The largest difference between the embeddings of onnxruntime and of the network."""
    largest = 0.0
    for n in (1, 5):
        images = torch.rand(n, 3, side, side, generator=generator(n, "export"))
        with torch.inference_mode():
            expected = network(images)
        output = torch.from_numpy(session.run(["embedding"], {"images": images.numpy()})[0])
        length = max(1.0, float(expected.norm(dim=1).max()))
        largest = max(largest, float((output - expected).abs().max()) / length)
    if not largest < TOLERANCE:
        problem = f"not written: embeddings of onnxruntime differ by {largest:.1e}"
        raise error_at(file, f"{problem} (allowed: less than {TOLERANCE:.0e})", largest)
    return largest


def export_safetensors(model: Embedder, file: str | Path, metadata: Mapping[str, str]) -> None:
    """Write all tensors of a model, including its backbone; `load_exported` reads the file.

    The metadata entry "model" is JSON with `settings` and `head`, as in a run's model.json.
    """
    from safetensors.torch import save_file

    backbone = model.require_backbone()
    settings = finetune_settings(model.settings).model_copy(
        update={"weights": "none", "image_size": model.image_size}
    )
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    state |= {f"input.{name}": getattr(backbone, name).contiguous() for name in _INPUT_BUFFERS}
    described = json.dumps(describe_model(model, settings))
    with replacing(file) as path:
        save_file(state, path, metadata={**metadata, "model": described})


def load_exported(file: str | Path, trust_code: bool = False) -> Embedder:
    """Load a model that `export_safetensors` wrote. No other file is needed."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with reading_model(file):
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get("model")
        if described is None:
            raise error_at(file, "not a model exported by oodml")
        model, state = build_model(json.loads(described), file, trust_code), load_file(file)
        for name in _INPUT_BUFFERS:
            getattr(model.require_backbone(), name).copy_(state.pop(f"input.{name}"))
        model.load_state_dict(state)
    return model.eval()


def _input_side(model: Embedder) -> int:
    """Side of the square input under the test transform, in pixels."""
    return round(model.image_size * recipe(model.settings.augmentation).enlarge)


def _describe_transform(model: Embedder) -> str:
    resolved = resolve_defaults(model.settings.backbone, model.settings.model_dump())
    name, side = str(resolved["augmentation"]), _input_side(model)
    cached = input_short(model.settings)
    first = f"shorter side resized to {cached} if larger; then " if cached else ""
    own = getattr(model.require_backbone().test_transform, "describe", None)
    if recipe(name).own_test and own:
        return f"{name}: {first}{own(side)}"
    short = round(model.image_size * 256 / 224)
    text = f"shorter side resized to {short}, bilinear; then center {side}×{side}"
    whole = f"whole image resized to {side}×{side}, bilinear"
    return f"{name}: {first}{whole if recipe(name).whole else text}"
