"""The pages of the documentation, and their commands and code."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHELL = ("sh", "bash", "console", "shell", "")
FENCE = re.compile(r"^( *)(`{3,})([\w+-]*)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("oodml", "torchrun", "python", "make", "pip", "sbatch", "srun")


@dataclass(frozen=True)
class Step:
    """A command, or a block of Python or TOML, and its location."""

    kind: str
    text: str
    location: str

    @property
    def words(self) -> list[str]:
        """The words of the command, without comments."""
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.location}: {self.text.splitlines()[0]}"


def pages() -> dict[str, Path]:
    """All pages by their paths from the root, except generated ones."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    generated = ROOT / "docs" / "reference"
    return {p.relative_to(ROOT).as_posix(): p for p in paths if generated not in p.parents}


def steps(page: str) -> list[Step]:
    """The commands, Python, and TOML of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    steps: list[Step] = []
    for block in FENCE.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        language = block[3]
        if language in SHELL:
            steps += _commands(block[4], language, page, line)
        elif language in ("python", "toml"):
            steps.append(Step(language, block[4], f"{page}:{line}"))
    return steps


def _commands(block: str, language: str, page: str, line: int) -> Iterator[Step]:
    """The commands of a block: lines after "$ " of a console, and lines that run a program."""
    joined = block.replace("\\\n", " ")
    for text in joined.splitlines():
        console = text.startswith("$ ")
        command = text.removeprefix("$ ").strip()
        starts = command.split(" ")[0] in PROGRAMS
        if (console or language != "console") and starts:
            yield Step("command", command, f"{page}:{line}")


def mentioned(page: str) -> list[Step]:
    """Commands in sentences, between backticks."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    quoted = (" ".join(one.split()) for one in re.findall(r"`+([^`]+)`+", text))
    begin = ("oodml ", "make ", "pip ", "python benchmarks/", "python scripts/")
    return [Step("mention", one, page) for one in quoted if one.startswith(begin)]
