"""`oodml try`."""

from pathlib import Path
from typing import Annotated

import typer


def try_(
    photos: Annotated[
        str, typer.Argument(help="A folder or table of labeled images, or a dataset's name.")
    ],
    new: Annotated[
        str | None, typer.Option(help="A folder of new images, labeled or not, to forecast.")
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="The network whose features are used: lite0, or a timm network.")
    ] = "lite0",
    minutes: Annotated[float, typer.Option(help="Time budget in minutes.", min=0.1)] = 10.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the study. By default try-NAME in the current folder."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, or mps. By default CUDA if available, else cpu."),
    ] = None,
) -> None:
    """Find out in minutes how retrieval of your images holds up on new classes.

    Compares a frozen network with trained heads on splits of growing shift.

    Example: `oodml try photos/ --new next_season/`
    """
    from oodml.first_study import try_images

    folder = out or Path(f"try-{Path(photos).resolve().name}")
    result = try_images(
        photos,
        folder,
        new=new,
        backbone=backbone,
        minutes=minutes,
        device=device,
        log=lambda message: typer.echo(message, err=True),
    )
    typer.echo("\n".join(result.sentences))
    typer.echo(f"Report: {result.page.resolve()}")
    typer.echo(
        f"To extend the study, edit {result.study_file} and run: "
        f"oodml study run {result.study_file} --out {folder}"
    )


COMMANDS = (try_,)
