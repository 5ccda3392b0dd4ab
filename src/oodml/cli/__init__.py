"""The `oodml` command: one short function per subcommand, which imports what it needs."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from oodml.cli import (
    adaptation,
    check,
    data,
    decisions,
    evaluation,
    forecast,
    model,
    report,
    share,
    shift,
    splits,
    study,
)
from oodml.cli.errors import report_error, tolerate_any_text
from oodml.cli.shared import CommandGroup

PANELS = {
    "Look at data": ["try", "demo", "data", "embed"],
    "Measure shift": ["shift", "splits"],
    "Train and study": ["study", "report", "fit", "adapt"],
    "Decide": ["evaluate", "compare", "threshold", "compress", "index", "forecast"],
    "Share": ["export", "push", "pull", "check"],
}
"""The commands of each panel of `oodml --help`, in the order of a typical workflow."""


class _OrderedGroup(CommandGroup):
    """Lists commands in the order of `PANELS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        order = [name for names in PANELS.values() for name in names]
        return sorted(self.commands, key=lambda n: order.index(n) if n in order else len(order))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        for one in (command, *getattr(command, "commands", {}).values()):
            _complete_help(one.get_params(ctx) if one else ())
        return command

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)
        _complete_help(params)
        return params


def _complete_help(options: Iterable[Any]) -> None:
    """Show no type of flags, and which options are not used by default."""
    for option in options:
        text = getattr(option, "help", None) or ""
        if getattr(option, "is_flag", False):
            option.metavar = ""  # a flag has no value; Typer would show <bool>
        elif option.default is None and not option.required and "default" not in text:
            option.help = f"{text.removesuffix('.')} (default: none)."


def _panel(name: str) -> str | None:
    return next((panel for panel, names in PANELS.items() if name in names), None)


app = typer.Typer(
    name="oodml",
    cls=_OrderedGroup,
    help="Measure how well an embedding model holds up on classes unlike its training classes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for group in (data, splits, study):
    group_name = group.__name__.rpartition(".")[2]
    app.add_typer(group.app, name=group_name, rich_help_panel=_panel(group_name))
MODULES = (study, shift, evaluation, decisions, adaptation, model, check, report, forecast, share)
for module in MODULES:
    for command in module.COMMANDS:
        command_name = command.__name__.rstrip("_").replace("_", "-")
        app.command(name=command_name, rich_help_panel=_panel(command_name))(command)


def _print_version(value: bool) -> None:
    if value:
        from oodml import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command. Errors end with a message instead of a traceback; see `report_error`."""
    tolerate_any_text()
    try:
        app()
    except Exception as error:
        sys.exit(report_error(error))
