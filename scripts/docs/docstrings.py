"""Docstrings of this project as lists: a line `name: what it is` becomes an item.

Used by the reference pages, and by mkdocstrings as an extension of griffe.
"""

import re
from collections.abc import Iterable

try:
    import griffe
except ImportError:  # only the site's build has it
    griffe = None


def entries(text: str, names: Iterable[str]) -> tuple[str, dict[str, str], str]:
    """What stands before the described names, each description by its names, and what follows.

    An entry starts a line, or follows a full stop or a semicolon on it. It ends at a paragraph's
    end, or at a line that is not indented and starts a sentence.
    """
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    if not known:
        return text, {}, ""
    start = re.compile(rf"(?:^|(?<=[.;] ))((?:{known})(?:, (?:{known}))*): ", re.MULTILINE)
    found = list(start.finditer(text))
    if not found:
        return text, {}, ""
    described, rest = {}, ""
    for one, following in zip(found, [*found[1:], None], strict=True):
        said = text[one.end() : following.start() if following else len(text)]
        if following is None:
            said, rest = _own_lines(said)
        described[one[1]] = " ".join(said.split())
    return text[: found[0].start()].strip(), described, rest


def _own_lines(text: str) -> tuple[str, str]:
    """The last entry and what follows it."""
    first, *lines = text.split("\n")
    ends = (i for i, line in enumerate(lines) if not line or line[0].isupper())
    count = next(ends, len(lines))
    return "\n".join([first, *lines[:count]]), "\n".join(lines[count:]).strip()


def as_list(text: str, names: Iterable[str]) -> str:
    """The docstring in Markdown, its entries as a list."""
    before, described, after = entries(text, names)
    items = "\n".join(f"- **`{name}`**: {said}" for name, said in described.items())
    return "\n\n".join(part for part in (before, items, after) if part)


if griffe is not None:

    class Lists(griffe.Extension):
        """Rewrites every docstring that describes its parameters or attributes."""

        def on_function_instance(self, *, func: griffe.Function, **_: object) -> None:
            if func.docstring:
                names = [parameter.name for parameter in func.parameters]
                func.docstring.value = as_list(func.docstring.value, names)

        def on_class_members(self, *, cls: griffe.Class, **_: object) -> None:
            if cls.docstring:
                names = {*cls.members, *_initialised_by(cls)}
                cls.docstring.value = as_list(cls.docstring.value, names)


def _initialised_by(cls: "griffe.Class") -> list[str]:
    made = cls.members.get("__init__")
    return [parameter.name for parameter in made.parameters] if made else []
