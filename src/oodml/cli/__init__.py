"""The `oodml` command: one short function per subcommand, which imports what it needs."""

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from oodml.cli import data, decisions, evaluation, model, report, share, shift, splits, study
from oodml.cli.errors import report_error, tolerate_any_text
from oodml.cli.shared import command as with_options

Panels = Mapping[str | None, Mapping[str, Any]]


def _group(text: str, panels: Panels) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode="markdown")
    return _add(group, panels)


def _add(group: typer.Typer, panels: Panels) -> typer.Typer:
    for panel, commands in panels.items():
        for name, command in commands.items():
            if isinstance(command, typer.Typer):
                group.add_typer(command, name=name, rich_help_panel=panel)
            else:
                group.command(name=name, rich_help_panel=panel)(with_options(command))
    return group


DATA = _group(
    "Check images, download published datasets, and list or clear the cache.",
    {None: {"check": data.check, "fetch": data.fetch, "cache": data.cache}},
)
SPLITS = _group("Build, show, check, and convert class splits.", {
    "Build": {"build": splits.build, "export": splits.export},
    "Read": {"show": splits.show, "describe": splits.describe},
    "Verify": {"check": splits.check, "backbones": splits.backbones},
})  # fmt: skip
STUDY = _group("Run studies: compare methods on splits of growing shift, with several seeds.", {
    "Write": {"init": study.init, "from-command": share.from_command},
    "Run": {"run": study.run, "add": study.add, "leave-out": study.leave_out},
    "Read": {"status": study.status, "table": study.table},
    "Share": {"pack": share.pack, "open": share.open_, "merge": share.merge,
              "verify": share.verify},
})  # fmt: skip
PANELS: dict[str | None, dict[str, Any]] = {
    "Look at data": {
        "try": study.try_, "demo": study.demo, "data": DATA, "embed": model.embed,
    },
    "Measure shift": {"shift": shift.shift, "splits": SPLITS},
    "Train and study": {
        "study": STUDY, "report": report.report, "fit": model.fit, "adapt": model.adapt,
    },
    "Decide": {
        "evaluate": evaluation.evaluate, "compare": evaluation.compare,
        "threshold": decisions.threshold, "compress": decisions.compress, "index": decisions.index,
        "forecast": decisions.forecast,
    },
    "Share": {
        "export": model.export, "push": share.push, "pull": share.pull, "check": share.check,
    },
}  # fmt: skip
"""The commands of each panel of `oodml --help`, in the order of a typical workflow."""


class _OrderedGroup(TyperGroup):
    """Lists commands in the order of `PANELS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        order = [name for names in PANELS.values() for name in names]
        return sorted(self.commands, key=order.index)

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


app = typer.Typer(
    name="oodml",
    cls=_OrderedGroup,
    help="Measure how well an embedding model holds up on classes unlike its training classes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_add(app, PANELS)


def _print_version(value: bool) -> None:
    if value:
        from oodml import __version__

        typer.echo(__version__)
        raise typer.Exit


_VERSION = typer.Option(
    "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
)


@app.callback()
def _root(version: Annotated[bool, _VERSION] = False) -> None:
    pass


def main() -> None:
    """Run the command. Errors end with a message instead of a traceback; see `report_error`."""
    tolerate_any_text()
    try:
        app()
    except Exception as error:
        sys.exit(report_error(error))
