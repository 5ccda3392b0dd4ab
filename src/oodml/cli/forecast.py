"""`oodml forecast`."""

from pathlib import Path
from typing import Annotated, Any

from oodml.cli import shared
from oodml.cli.shared import Count, Number, option


def forecast(
    study: shared.Study,
    new: Annotated[
        str, option("Unlabeled images, or a file of their vectors.", callback=shared.named_vectors)
    ],
    classes: Annotated[Count, option("Number of classes (default: estimated).", min=2)] = None,
    images_per_class: Annotated[
        Number, option("Instead of --classes (default: none).", min=1)
    ] = None,
    judge: Annotated[Count, option("Write a page for judging this many queries.", min=10)] = None,
    out: Annotated[Path, option("Folder for the page of --judge.")] = Path("judge"),
    judged: Annotated[list[Path] | None, option("Answers from the page; repeatable.")] = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
    as_json: shared.Json = False,
) -> None:
    """Forecast Recall@1 of the methods of a study on images of unknown classes.

    Example: `oodml forecast results/ --new new_images/`
    """
    from oodml.forecasting.description import describe_forecast
    from oodml.forecasting.judge import describe_judged, write_judge_page
    from oodml.forecasting.target import open_forecast
    from oodml.report.folder import read_folder
    from oodml.share.pack import study_folder

    with study_folder(study) as path:
        folder = read_folder(path, trust_code=trust_code)
        options: Any = {"trust_code": trust_code, "device": device}
        opened = open_forecast(folder, new, classes, images_per_class, **options)
        text = [describe_forecast(opened)]
        if judge is not None:
            page = write_judge_page(opened, judge, out)
            text.append(f"Judge the queries on {page}, then pass the saved file with --judged.")
        if judged:
            text.append(describe_judged(opened, judged, out))
    asked = judge is not None or judged
    shared.show(
        text,
        next=() if asked else ("forecast", study, "--new", new, "--judge", 50),
        json={"answer": "\n".join(text), "methods": opened.forecast.methods.to_dict("records")},
    )
