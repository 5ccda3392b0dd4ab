"""The `oodml` command: one short function a verb; what a verb needs is imported inside it."""

import sys
from typing import Annotated

import typer

from oodml.cli import (
    adaptation,
    cache,
    data,
    evaluation,
    extend,
    model,
    report,
    shift,
    splits,
    study,
)

app = typer.Typer(
    name="oodml",
    help="How well will an embedding model hold up on classes unlike those it was trained on?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(splits.app, name="splits")
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
for module in (study, shift, evaluation, adaptation, model, extend, report):
    for command in module.COMMANDS:
        app.command()(command)


def _version(value: bool) -> None:
    if value:
        from oodml import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; bad input ends with its message and status 2, no traceback."""
    from oodml.errors import OodmlError

    try:
        app()
    except OodmlError as error:
        typer.secho(f"oodml: {error}", fg="red", err=True)
        sys.exit(2)
