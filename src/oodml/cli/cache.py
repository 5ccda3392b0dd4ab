"""`oodml cache …`: list and delete cached features and images."""

from typing import Annotated

import typer

from oodml.cli.shared import argument, command_group, option
from oodml.errors import unknown

app = command_group("List and delete cached features and images.")


@app.command("list")
def list_cache() -> None:
    """Print the cache folder and the size of each part.

    Example: `oodml cache list`
    """
    from oodml.files import cache_folder
    from oodml.images.pixel_cache import list_pixel_caches
    from oodml.progress import format_size

    parts = _parts()
    typer.echo(f"{cache_folder()} (set OODML_CACHE to use another folder)")
    for name, sizes in parts.items():
        typer.echo(f"  {name}: {len(sizes)} files, {format_size(sum(sizes))}")
        for description, size in list_pixel_caches() if name == "pixels" else ():
            typer.echo(f"    {description}, {format_size(size)}")
    if not parts:
        typer.echo("  empty")


@app.command()
def clear(
    part: Annotated[str | None, argument("The part to delete; default: all.")] = None,
    yes: Annotated[bool, option("Do not ask for confirmation.", "--yes")] = False,
) -> None:
    """Delete the cache or a part of it. Everything is recomputed when needed.

    Parts: `features` of frozen networks; `pixels`, decoded and resized images; `contents`, hashes
    of image files and which can be read; `huggingface`, image files of Hugging Face datasets.

    Example: `oodml cache clear features`
    """
    import shutil

    from oodml.files import cache_folder
    from oodml.progress import format_size

    parts = _parts()
    if part is not None and part not in parts:
        raise unknown("part of the cache", part, parts, str(cache_folder()))
    chosen = [part] if part else list(parts)
    size = format_size(sum(sum(parts[name]) for name in chosen))
    if not yes:
        typer.confirm(f"delete {', '.join(chosen) or 'nothing'} ({size})?", abort=True)
    for name in chosen:
        shutil.rmtree(cache_folder() / name)
    typer.echo(f"freed {size}")


def _parts() -> dict[str, list[int]]:
    from oodml.files import cache_folder

    folder = cache_folder()
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return {
        part.name: [file.stat().st_size for file in part.rglob("*") if file.is_file()]
        for part in parts
    }
