"""The pages of the documentation, and the commands and code that they show."""

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
    """Something that a page shows: a command, or a block of Python or TOML, and where it stands."""

    kind: str
    text: str
    place: str

    @property
    def words(self) -> list[str]:
        """The command's words; what follows a # is a comment."""
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.place}: {self.text.splitlines()[0]}"


def pages() -> dict[str, Path]:
    """Every page by its path from the root, but for those that are made from the code."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    made = ROOT / "docs" / "reference"
    return {path.relative_to(ROOT).as_posix(): path for path in found if made not in path.parents}


def steps(page: str) -> list[Step]:
    """Commands, Python and TOML of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[Step] = []
    for block in FENCE.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        language = block[3]
        if language in SHELL:
            found += _commands(block[4], language, page, line)
        elif language in ("python", "toml"):
            found.append(Step(language, block[4], f"{page}:{line}"))
    return found


def _commands(block: str, language: str, page: str, line: int) -> Iterator[Step]:
    """The commands of a block: lines after "$ " of a console, else lines that start a program."""
    joined = block.replace("\\\n", " ")
    for text in joined.splitlines():
        console = text.startswith("$ ")
        command = text.removeprefix("$ ").strip()
        starts = command.split(" ")[0] in PROGRAMS
        if (console or language != "console") and starts:
            yield Step("command", command, f"{page}:{line}")


def mentioned(page: str) -> list[Step]:
    """Commands that stand in a sentence, between backticks."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    found = (" ".join(one.split()) for one in re.findall(r"`+([^`]+)`+", text))
    begin = ("oodml ", "make ", "pip ", "python benchmarks/", "python scripts/")
    return [Step("mention", one, page) for one in found if one.startswith(begin)]
