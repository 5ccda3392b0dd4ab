"""Tables that commands print."""

from collections.abc import Sequence


def print_table(
    title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], text: Sequence[str] = ()
) -> None:
    """Print a table; all columns but the first and those of `text` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, because brackets in file names are not markup.
    table = Table(title=Text(title) if title else None, title_justify="left")
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if position and head not in text else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table, width=None if console.is_terminal else 200)
