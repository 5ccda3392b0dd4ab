"""Opening a study: a file of the user's, or one that comes with the package, by its name."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, unknown
from oodml.study.spec.study_file import Study, parse_study, read_study


def shipped() -> dict[str, str]:
    """The text of every study that comes with the package, by its name."""
    found = (files("oodml") / "studies").iterdir()
    texts = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in found if ".toml" in f.name}
    return dict(sorted(texts.items()))


def open_study(which: str | Path, data: Path | None = None, splits: Path | None = None) -> Study:
    """The study of a file or of a name in `shipped()`.

    data: where its data set lies, instead of what the file says. splits: a file of splits, such
    as the published ones, instead of building them. Paths in a shipped study start at the
    working directory.
    """
    path = Path(which)
    known = shipped()
    if not path.exists() and str(which) in known:
        path, text = Path.cwd() / f"{which}.toml", known[str(which)]
    elif not path.exists() and not path.suffix:
        raise unknown("study", str(which), known, "beside these, any file FILE.toml")
    elif data is None and splits is None:
        return read_study(path)
    else:
        text = read_study(path).text
    tables = tomllib.loads(text)
    given = []
    if data is not None:
        tables["data"] = _placed(tables["data"], data)
        given.append(f"# --data {data}\n")
    if splits is not None:
        tables["splits"] = {"file": str(splits.expanduser().resolve())}
        given.append(f"# --splits {splits}\n")
    return parse_study(tables, path).model_copy(update={"text": "".join(given) + text})


def _placed(table: Any, data: Path) -> Any:
    if not data.expanduser().exists():
        raise OodmlError(f"--data {data}: no such folder or table")
    place = str(data.expanduser().resolve())
    return dict(table) | {"root": place} if isinstance(table, dict) else place
