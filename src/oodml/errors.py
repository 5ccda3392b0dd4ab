"""The one kind of error that bad input raises, and the words it is told in."""

import difflib
from collections.abc import Iterable


class OodmlError(ValueError):
    """Bad input. The message names the place, the value given, and what is allowed."""


def unknown(what: str, given: object, allowed: Iterable[str], where: str = "") -> OodmlError:
    """The error for a name that does not exist, with the nearest that does.

    `what` is the kind of thing ("loss", "key"), `where` the file or table it stood in.
    """
    options = sorted(allowed)
    near = difflib.get_close_matches(str(given), options, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    place = f"{where}: " if where else ""
    return OodmlError(f"{place}unknown {what} {given!r}.{hint} Allowed: {', '.join(options)}.")
