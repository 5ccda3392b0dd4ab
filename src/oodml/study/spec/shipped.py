"""Opening a study: a file, or a study that comes with the package, by its name."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, unknown
from oodml.study.spec.study_file import Study, parse_study, read_study

PREFIX = "shipped:"
"""Marks the name of a shipped study, so that no path can take its place."""
PUBLISHED = ("cars196", "cub200", "inshop", "online_products")
"""Datasets that `oodml data fetch` downloads or explains how to get."""


def shipped_studies() -> dict[str, str]:
    """The text of every study that comes with the package, by its name."""
    paths = (files("oodml") / "shipped_studies").iterdir()
    texts = {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in paths if ".toml" in p.name}
    return dict(sorted(texts.items()))


def open_study(which: str | Path, data: Path | None = None, splits: Path | None = None) -> Study:
    """Open a study file, or a study that comes with the package.

    "shipped:NAME" always is a shipped study. So is a bare NAME, without suffix and folder, unless
    there is a file of that name; a folder of that name does not matter. Relative paths in a
    shipped study start at the current folder. `splits` is a file to use instead of building them.
    """
    name = _shipped_name(str(which))
    if name is not None:
        path, text = Path.cwd() / f"{name}.toml", shipped_studies()[name]
    elif data is None and splits is None:
        return read_study(which)
    else:
        path, text = Path(which), read_study(which).text
    tables = tomllib.loads(text)
    comments = []
    if data is not None:
        tables["data"] = _replace_root(tables["data"], data)
        comments.append(f"# --data {data}\n")
    if splits is not None:
        tables["splits"] = {"file": str(splits.expanduser().resolve())}
        comments.append(f"# --splits {splits}\n")
    return parse_study(tables, path).model_copy(update={"text": "".join(comments) + text})


def check_data(study: Study, which: str) -> None:
    """Check that the published dataset of a study is on this machine."""
    name, root = study.data.name, Path(study.data.options.get("root", study.data.name))
    if name not in PUBLISHED or root.expanduser().is_dir():
        return
    problem = (
        f"data: {name} is not in {root}. Run `oodml data fetch {name} --root {root}`, which "
        f"downloads it or prints how to, and then `oodml study run {which} --data {root} --out …`. "
        "Without the data, `--smoke` tests the study on generated images."
    )
    raise OodmlError(problem, "data.root", str(root))


def _shipped_name(which: str) -> str | None:
    studies, path = shipped_studies(), Path(which)
    name = which.removeprefix(PREFIX)
    if which.startswith(PREFIX) and name not in studies:
        raise unknown("shipped study", name, studies)
    if which.startswith(PREFIX):
        return name
    if path.suffix or path.name != which or path.is_file():
        return None
    if which in studies:
        return which
    if path.exists():
        return None
    error = unknown("study", which, studies)
    problem = f"{error} The path of a study file FILE.toml is allowed as well."
    raise OodmlError(problem, given=which, allowed=error.allowed)


def _replace_root(table: Any, data: Path) -> Any:
    if not data.expanduser().exists():
        problem = f"--data {data}: no such folder or table"
        raise OodmlError(problem, location="--data", given=str(data))
    path = str(data.expanduser().resolve())
    return dict(table) | {"root": path} if isinstance(table, dict) else path
