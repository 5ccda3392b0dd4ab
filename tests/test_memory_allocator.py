"""The allocator setting: fewer page faults, and nothing changes where the user has decided."""

import os
import subprocess
import sys

import pytest

from oodml.memory_allocator import USER_SETTINGS

CODE = """
import resource, sys
import torch
from oodml.memory_allocator import keep_freed_memory
configured = keep_freed_memory() if sys.argv[1] == "on" else False
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 22)
before = faults()
for _ in range(50):
    torch.ones(1 << 22)  # 16 MiB
print(configured, faults() - before)
"""


def run(setting: str, **more: str) -> tuple[str, int]:
    """Whether the allocator was configured, and the page faults of fifty 16 MiB blocks."""
    configured, faults = execute(CODE, setting, **more).split()
    return configured, int(faults)


def execute(code: str, *arguments: str, **more: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(USER_SETTINGS)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=environment | more, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_blocks_are_reused() -> None:
    configured, reused = run("on")
    if configured == "False":
        pytest.skip("not glibc")
    _, returned = run("off", MALLOC_MMAP_THRESHOLD_="131072")
    assert reused < returned / 5


def test_the_users_setting_wins() -> None:
    code = "from oodml.memory_allocator import keep_freed_memory; print(keep_freed_memory())"
    assert execute(code, MALLOC_TRIM_THRESHOLD_="131072").strip() == "False"
    assert execute(code, GLIBC_TUNABLES="glibc.malloc.check=0").strip() == "False"
