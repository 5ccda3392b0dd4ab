"""`oodml study …`."""

import typer

app = typer.Typer(no_args_is_help=True, help="Run studies: methods × splits × seeds.", rich_markup_mode="markdown")
COMMANDS = ()
