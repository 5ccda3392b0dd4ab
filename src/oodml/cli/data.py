"""`oodml data …`."""

import typer

app = typer.Typer(no_args_is_help=True, help="Look at a collection of images before using it.", rich_markup_mode="markdown")
COMMANDS = ()
