"""`oodml forecast`."""

from pathlib import Path
from typing import Annotated, Any

from oodml.cli import shared
from oodml.cli.shared import Count, File, Number, option


def forecast(
    study: shared.Study,
    new: Annotated[
        str,
        option("New images: a folder, or a file of their vectors.", callback=shared.named_vectors),
    ],
    classes: Annotated[Count, option("Number of classes.", min=2, unset="estimated")] = None,
    images_per_class: Annotated[
        Number, option("Mean number, instead of --classes.", min=1, unset="estimated")
    ] = None,
    judge: Annotated[
        File, option("Page (.html) for judging neighbors; written unless --judgments is given.")
    ] = None,
    n_queries: Annotated[Count, option("Number of queries to sample.", min=10, unset="50")] = None,
    judgments: Annotated[
        list[Path] | None,
        option("Answers that the page of --judge saved; repeatable.", metavar="FILE"),
    ] = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
    as_json: shared.Json = False,
) -> None:
    """Forecast Recall@1 of the methods of a study on images of unknown classes.

    If the interval is too wide, judge some queries: --judge page.html writes the page, and
    --judge page.html --judgments judged.csv reads your answers.

    Example: `oodml forecast results/ --new new_images/`
    """
    from oodml.errors import OodmlError
    from oodml.forecasting.description import describe_forecast
    from oodml.forecasting.judge import describe_judged, write_judge_page
    from oodml.forecasting.target import open_forecast
    from oodml.report.folder import read_folder
    from oodml.share.pack import study_folder

    if judge is None and (judgments or n_queries):
        flag = "--judgments" if judgments else "--n-queries"
        raise OodmlError(f"{flag} needs --judge, the page", location=flag)
    if judge is not None and judge.suffix != ".html":
        raise OodmlError(f"--judge {judge}: give a page, .html", "--judge", str(judge))
    with study_folder(study) as path:
        folder = read_folder(path, trust_code=trust_code)
        options: Any = {"trust_code": trust_code, "device": device}
        opened = open_forecast(folder, new, classes, images_per_class, **options)
        text = [describe_forecast(opened)]
        command: list[object] = ["forecast", study, "--new", new, "--judge"]
        if judge is not None and judgments:
            text.append(describe_judged(opened, judgments, judge))
            command = ["report", study]
        elif judge is not None:
            write_judge_page(opened, n_queries or 50, judge)
            text.append(f"Judge the queries on {judge}, then pass the saved file to --judgments.")
            command += [judge, "--judgments", "judged.csv"]
        else:
            command.append("judge.html")
    shared.show(
        text,
        next=command,
        json={"answer": "\n".join(text), "methods": opened.forecast.methods.to_dict("records")},
    )
