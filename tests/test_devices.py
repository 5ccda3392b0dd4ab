"""Devices are checked before anything is computed."""

import pytest
import torch

from oodml.devices import DEVICES, resolve_device
from oodml.errors import OodmlError


def test_the_default_is_what_the_machine_has() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device() == torch.device(expected)
    assert resolve_device(torch.device("cpu")) == resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    "name", ["gpu", "garbage", "", "cuda:x", "cuda:", "cpu:-1", "CUDA", "meta"]
)
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(OodmlError) as raised:
        resolve_device(name)
    assert (raised.value.location, raised.value.given) == ("device", name)
    assert raised.value.allowed == DEVICES


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_the_machine_lacks_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OodmlError) as raised:
        resolve_device(name)
    assert raised.value.given == name


def test_the_index_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(OodmlError, match="cuda:2"):
        resolve_device("cuda:2")
