"""`oodml check`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from oodml.cli import shared
from oodml.cli.shared import Text, Words, argument


def check(
    name: Annotated[
        str, argument("An import path, module:Object, or a catalog name.", metavar="PART")
    ],
    kind: Annotated[
        Text, shared.option("Kind of part, such as losses.", unset="by its arguments")
    ] = None,
    option: Annotated[Words, shared.option("KEY=VALUE; may be repeated.")] = None,
    as_json: shared.Json = False,
) -> None:
    """Check that your own loss, miner, method, network, dataset, or few-shot adapter works.

    It is tested against the same requirements as the parts of oodml. The exit status is 1 if a
    requirement is not met.

    Example: `oodml check mylab.losses:Foo --option margin=0.3`
    """
    from oodml.catalog import make_importable
    from oodml.checks import check as check_all
    from oodml.checks import kind_of

    make_importable(Path.cwd())
    kind = kind or kind_of(name)
    results = check_all(name, kind, dict(map(_parse_option, option or ())))
    heads = ("", "requirement", "problem and remedy")
    details = ["\n".join(filter(None, (one.problem, one.remedy))) for one in results]
    rows = [(r.mark, r.requirement, text) for r, text in zip(results, details, strict=True)]
    failed = sum(result.failed for result in results)
    shared.show(
        f"{failed} of {len(results)} requirements not met" if failed else "all requirements met",
        shared.Table(f"{name} ({kind})", heads, rows, heads),
        next=() if failed else ("study", "run", "study.toml", "--out", "results"),
        json=[{"requirement": requirement, "met": not one.failed, "problem": text}
              for one, (_, requirement, text) in zip(results, rows, strict=True)],
    )  # fmt: skip
    if failed:
        raise typer.Exit(1)


def _parse_option(text: str) -> tuple[str, Any]:
    import tomllib

    key, value = shared.parse_pair(text, "--option")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
