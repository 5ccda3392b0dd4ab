"""Which torch device to compute on."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from oodml.errors import OodmlError

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "cuda:N", "mps")


def resolve_device(device: "str | torch.device | None" = None) -> "torch.device":
    """The device that a user asked for, checked; without a request, CUDA if available, else CPU.

    Call it before anything is computed: cached results make torch's own errors come late or never.
    """
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = str(device).partition(":")
    gpus = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
    problem = ""
    if kind not in ("cpu", "cuda", "mps") or (str(device) != kind and not index.isdecimal()):
        hint = ' Did you mean "cuda"?' if kind.lower() in ("gpu", "nvidia", "cuda") else ""
        problem = f"unknown device {str(device)!r}.{hint}"
    elif kind == "cuda" and not gpus:
        reason = "" if torch.version.cuda else "; the installed torch is built without CUDA"
        problem = f"device {str(device)!r}: torch does not find a CUDA GPU{reason}."
    elif kind == "cuda" and int(index or 0) >= gpus:
        problem = f"device {str(device)!r}: this machine has {gpus} CUDA GPUs."
    elif kind == "mps" and not torch.backends.mps.is_available():
        problem = f"device {str(device)!r}: torch does not find an Apple GPU (MPS)."
    if problem:
        hint = f"Allowed: {', '.join(DEVICES)}. Leave out --device to choose automatically."
        raise OodmlError(f"{problem} {hint}", "device", str(device), DEVICES)
    return torch.device(str(device))


def describe_hardware(device: "torch.device") -> dict[str, str]:
    """What a run was computed on: Python, the system, the processor, and the device."""
    import platform

    import torch

    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line[:10] == "model name"]
    described = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": models[0] if models else platform.processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": str(torch.get_num_threads()),
    }
    return {name: value for name, value in described.items() if value}
