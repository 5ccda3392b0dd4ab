"""`oodml check`."""

from pathlib import Path
from typing import Annotated, Any

import typer


def check(
    thing: Annotated[str, typer.Argument(help="An import path, module:Object, or a name.")],
    kind: Annotated[
        str | None, typer.Option(help="losses, miners, methods, backbones or datasets.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, the value as in a study file.")
    ] = None,
) -> None:
    """Check your own loss, miner, method, backbone or data set: does it keep what ours promise?

    Example: `oodml check mylab.losses:Foo --option margin=0.3`
    """
    from rich.console import Console
    from rich.table import Table

    from oodml.catalog import make_importable
    from oodml.contract import check as check_promises
    from oodml.contract import kind_of

    make_importable(Path.cwd())
    kind = kind or kind_of(thing)
    findings = check_promises(thing, kind, dict(_option(text) for text in option or ()))
    table = Table(title=f"{thing}, one of {kind}", title_justify="left", box=None, pad_edge=False)
    for title in ("", "promise", "what was found; what to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        told = "\n".join(part for part in (finding.found, finding.remedy) if part)
        table.add_row(finding.mark, finding.promise, told)
    Console().print(table, markup=False, highlight=False)
    broken = sum(finding.fails for finding in findings)
    typer.echo(
        f"{broken} of {len(findings)} promises broken" if broken else "every promise is kept"
    )
    if broken:
        raise typer.Exit(1)


def _option(text: str) -> tuple[str, Any]:
    import tomllib

    from oodml.errors import OodmlError

    key, sign, value = text.partition("=")
    if not sign:
        raise OodmlError(f"--option {text!r}: KEY=VALUE is expected")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


COMMANDS = (check,)
