"""`oodml cache …`: where features and images lie, what they weigh, and how to be rid of them."""

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Features and images kept for reuse.", rich_markup_mode="markdown"
)
COMMANDS = ()


@app.command("list")
def list_cache() -> None:
    """Where the cache lies and what each part of it weighs.

    Example: `oodml cache list`
    """
    from oodml.files import cache_folder
    from oodml.images.pixel_cache import kept_files
    from oodml.study.preview import told_size

    folder = cache_folder()
    typer.echo(f"{folder} (set OODML_CACHE to move it)")
    for name, sizes in _parts().items():
        typer.echo(f"  {name}: {len(sizes)} files, {told_size(sum(sizes))}")
        for kept, size in kept_files() if name == "pixels" else ():
            typer.echo(f"    {kept}, {told_size(size)}")
    if not _parts():
        typer.echo("  empty")


@app.command()
def clear(
    part: Annotated[str | None, typer.Argument(help="A part of it; all by default.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the cache, or a part of it; what is needed again is computed again.

    Parts: `features` of frozen networks; `pixels`, images decoded and made smaller; `contents`,
    which images can be read; `huggingface`, the files of its data sets.

    Example: `oodml cache clear features`
    """
    import shutil

    from oodml.errors import unknown
    from oodml.files import cache_folder
    from oodml.study.preview import told_size

    parts = _parts()
    if part is not None and part not in parts:
        raise unknown("part of the cache", part, parts, str(cache_folder()))
    gone = [part] if part else list(parts)
    size = told_size(sum(sum(parts[name]) for name in gone))
    if not yes:
        typer.confirm(f"delete {', '.join(gone) or 'nothing'} ({size})?", abort=True)
    for name in gone:
        shutil.rmtree(cache_folder() / name)
    typer.echo(f"freed {size}")


def _parts() -> dict[str, list[int]]:
    """The sizes of the files in each part of the cache."""
    from oodml.files import cache_folder

    folder = cache_folder()
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return {
        part.name: [file.stat().st_size for file in part.rglob("*") if file.is_file()]
        for part in parts
    }
