"""`oodml study pack`, `open`, …: studies as files that others can open, join, and check."""

from pathlib import Path
from typing import Annotated

import typer

from oodml.cli.study import Folder, app

COMMANDS = ()

Pack = Annotated[Path, typer.Argument(help="A pack: a .zip file of `oodml study pack`.")]


@app.command()
def pack(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The .zip file to write.")],
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Include features, and test embeddings in float16.")
    ] = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Include small pictures for the report.")
    ] = False,
) -> None:
    """Write a study to one file for others: no local paths, no user or host names, no code.

    The same study gives the same bytes. Others run `oodml report study.zip` or
    `oodml study open study.zip --out folder`.

    Example: `oodml study pack results --out study.zip`
    """
    from oodml.report.folder import read_folder
    from oodml.report.payload import report_thumbnails
    from oodml.share.pack import pack_study

    study = read_folder(folder)
    pictures = report_thumbnails(study) if thumbnails else {}
    manifest = pack_study(
        folder, out, vectors=vectors, images=study.images or study.features, thumbnails=pictures
    )
    shown = f", {len(pictures)} thumbnails" if thumbnails else ""
    typer.echo(f"{out}: {len(manifest['methods'])} methods, {len(manifest['files'])} files{shown}")
    typer.echo(f"cite it by its hash: {manifest['hash']}")


@app.command(name="open")
def open_(
    pack: Pack,
    out: Annotated[Path, typer.Option(help="The folder to create.")],
) -> None:
    """Check a pack and extract it to a study folder. No code in it is run.

    Example: `oodml study open study.zip --out results`
    """
    from oodml.share.pack import open_pack

    manifest = open_pack(pack, out)
    typer.echo(f"{out}: {manifest['name']} on {manifest['data']}, {', '.join(manifest['methods'])}")


@app.command()
def merge(
    studies: Annotated[list[Path], typer.Argument(help="Study folders and packs, two or more.")],
    out: Annotated[Path, typer.Option(help="The folder to create.")],
) -> None:
    """Join studies of the same data and splits into one table, one page, and one ranking.

    Example: `oodml study merge mine theirs.zip --out both`
    """
    from oodml.share.merge import merge_studies

    merged = merge_studies(studies, out)
    for name in merged.renamed:
        typer.echo(f"other settings than the method of an earlier study: now {name}")
    for one in merged.contradictions:
        typer.secho(
            f"{merged.runs[one.run].description} (run {one.run}): {one.metric} is {one.first:.6g} "
            f"in the first study and {one.second:.6g} in another; the first is used",
            fg="yellow",
        )
    equal = f", {len(merged.equal)} of them in several studies with equal numbers"
    typer.echo(f"{out}: {len(merged.rows)} runs{equal if merged.equal else ''}")
