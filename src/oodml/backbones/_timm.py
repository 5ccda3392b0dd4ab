"""Networks of timm."""

from pathlib import Path
from typing import Any

import timm

from oodml.backbones._base import Backbone, load_weights
from oodml.errors import OodmlError


def timm_names() -> list[str]:
    """The names of all timm networks, without and with the tag of their weights."""
    return [*timm.list_models(), *timm.list_pretrained()]


_failures: dict[str, str] = {}
"""Why pretrained weights could not be loaded, by network; the hub's retries take a minute."""


def timm_backbone(name: str, weights: str | None = None) -> Backbone:
    """A timm network without its classifier.

    Args:
        name: the network, optionally with a tag, such as "resnet50.tv_in1k".
        weights: as in `oodml.backbones.load_backbone`.

    Raises:
        OodmlError: if pretrained weights cannot be loaded from the hub.
    """
    if weights is None and name in _failures:
        raise _weights_error(name, _failures[name])
    try:
        network: Any = timm.create_model(name, pretrained=weights is None, num_classes=0)
    except Exception as error:  # the hub client raises many types of exceptions
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        _failures[name] = f"{type(error).__name__}: {reason}"
        raise _weights_error(name, _failures[name]) from error
    config = network.pretrained_cfg
    if weights not in (None, "none"):
        load_weights(network, Path(str(weights)))
    return Backbone(
        network,
        network.num_features,
        config["input_size"][-1],
        tuple(config["mean"]),
        tuple(config["std"]),
        channels_last=True,
    )


def _weights_error(name: str, reason: str) -> OodmlError:
    return OodmlError(
        f"backbone {name!r}: could not load pretrained weights ({reason}). "
        'Set weights to a local file, or to "none" for untrained weights.',
        location="backbone",
        given=name,
    )
