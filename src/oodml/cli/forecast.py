"""`oodml forecast` and `oodml forecast-trial`."""

from pathlib import Path
from typing import Annotated

import typer

from oodml.cli.report import StudyDirectory, TrustCode
from oodml.cli.shared import Device, ImageSize, option


def forecast(
    directory: StudyDirectory,
    target: Annotated[
        str, option("A folder of unlabeled images, or a vector file of their features.")
    ],
    classes: Annotated[
        int | None, option("The number of classes in the target, if known.", min=2)
    ] = None,
    images_per_class: Annotated[
        float | None, option("Images per class, instead of --classes.", min=1)
    ] = None,
    judge: Annotated[
        int | None, option("Write a page for judging this many queries.", min=10)
    ] = None,
    out: Annotated[Path, option("Folder for the page of --judge.")] = Path("judge"),
    judged: Annotated[
        list[Path] | None,
        option("Answers from the page of --judge. Repeat it to compare two people."),
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Forecast Recall@1 of the methods of a study on images of unknown classes.

    Example: `oodml forecast results/ --target new_images/`
    """
    from oodml.forecasting.answer import describe_forecast
    from oodml.forecasting.judge import describe_judged, write_judge_page
    from oodml.forecasting.target import open_forecast
    from oodml.report.folder import read_folder
    from oodml.share.pack import study_folder

    with study_folder(directory) as path:
        folder = read_folder(path, trust_code=trust_code)
        opened = open_forecast(folder, target, classes, images_per_class, trust_code=trust_code)
        typer.echo(describe_forecast(opened))
        if judge is not None:
            page = write_judge_page(opened, judge, out)
            typer.echo(f"Judge the queries on {page}, then pass the saved file with --judged.")
        if judged:
            typer.echo(describe_judged(opened, judged, out))


def forecast_trial(
    data: Annotated[str, option("A folder with superclasses, a table of images, or a dataset.")],
    out: Annotated[Path, option("Folder for the trial. Run it again to resume.")],
    methods: Annotated[
        str, option("Methods to train, separated by commas; frozen is added.")
    ] = "margin,multisimilarity,proxy_anchor",
    groups: Annotated[
        str, option("The column whose values are left out, such as camera or style.")
    ] = "superclass",
    seeds: Annotated[int, option("Seeds per method.", min=1)] = 3,
    n_splits: Annotated[int, option("Splits per study.", min=1)] = 2,
    epochs: Annotated[int, option("Epochs per run.", min=1)] = 10,
    backbone: Annotated[str, option("The network whose features are used.")] = "lite0",
    image_size: ImageSize = None,
    augmentation: Annotated[
        str, option('The transforms; "gentle" for characters, logos, and text.')
    ] = "base",
    device: Device = None,
) -> None:
    """Leave groups of images out, forecast them from studies of the others, and score this.

    A group is a superclass, or a value of another column of a table (--groups).

    Example: `oodml forecast-trial --data photos/ --out trial/`
    """
    from oodml.forecasting.trial import TrialSettings, describe_trial, run_trial

    trained = tuple(name.strip() for name in methods.split(",") if name.strip() != "frozen")
    features = (backbone, image_size, augmentation)
    settings = TrialSettings(data, groups, trained, seeds, n_splits, epochs, *features)
    trial = run_trial(settings, out, device, log=lambda text: typer.echo(text, err=True))
    typer.echo(describe_trial(trial))


COMMANDS = (forecast, forecast_trial)
