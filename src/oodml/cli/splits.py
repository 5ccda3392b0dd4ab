"""`oodml splits …`."""

import typer

app = typer.Typer(no_args_is_help=True, help="Build, show, check and convert class splits.", rich_markup_mode="markdown")
COMMANDS = ()
