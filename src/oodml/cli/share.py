"""`oodml study pack`, `open`, …: files that others can open, join, and check; `oodml check`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from oodml.cli import shared
from oodml.cli.shared import File, Text, Words, argument, option
from oodml.errors import unknown

Pack = Annotated[Path, argument("Pack: a .zip file of `oodml study pack`.")]
Repository = Annotated[str, argument("The repository on the hub: user/name.", metavar="REPOSITORY")]
NewFolder = Annotated[Path, option("Folder to create.")]


def pack(
    folder: shared.StudyFolder,
    out: Annotated[Path, option("File to write: .zip.")],
    vectors: Annotated[bool, option("Include vectors, in float16.", "--with-vectors")] = False,
    thumbnails: Annotated[bool, option("Include pictures.", "--with-thumbnails")] = False,
) -> None:
    """Write a study to one file for others: no local paths, no user or host names, no code.

    The same study gives the same bytes. Others run `oodml report study.zip` or
    `oodml study open study.zip --out folder`.

    Example: `oodml study pack results --out study.zip`
    """
    from oodml.report.folder import read_folder
    from oodml.report.page import report_thumbnails
    from oodml.share.pack import pack_study

    shared.check_outputs([out], folder)
    study = read_folder(folder)
    pictures = report_thumbnails(study) if thumbnails else {}
    images = study.images or study.features
    manifest = pack_study(folder, out, vectors=vectors, images=images, thumbnails=pictures)
    shown = f", {len(pictures)} thumbnails" if thumbnails else ""
    sentences = [
        f"{out}: {len(manifest['methods'])} methods, {len(manifest['files'])} files{shown}",
        f"cite it by its hash: {manifest['hash']}",
    ]
    shared.show(sentences, next=("study", "verify", out))


def open_(pack: Pack, out: NewFolder) -> None:
    """Check a pack and extract it to a study folder. No code in it is run.

    Example: `oodml study open study.zip --out results`
    """
    from oodml.share.pack import open_pack

    manifest = open_pack(pack, out)
    sentence = f"{out}: {manifest['name']} on {manifest['data']}, {', '.join(manifest['methods'])}"
    shared.show(sentence, next=("report", out))


def merge(
    studies: Annotated[list[Path], argument("Studies: folders and packs, two or more.")],
    out: NewFolder,
) -> None:
    """Join studies of the same data and splits into one table, one page, and one ranking.

    Example: `oodml study merge mine theirs.zip --out both`
    """
    from oodml.share.merge import merge_studies

    merged = merge_studies(studies, out)
    for name in merged.renamed:
        typer.echo(f"other settings than the method of an earlier study: now {name}", err=True)
    for one in merged.contradictions:
        note = (
            f"{merged.runs[one.run].description} (run {one.run}): {one.metric} is {one.first:.6g} "
        )
        note += f"in the first study and {one.second:.6g} in another; the first is used"
        typer.secho(note, fg="yellow", err=True)
    equal = f", {len(merged.equal)} of them in several studies with equal numbers"
    sentence = f"{out}: {len(merged.rows)} runs{equal if merged.equal else ''}"
    shared.show(sentence, next=("report", out))


def verify(
    study: shared.Study,
    runs: Annotated[int, option("Number of runs to repeat, drawn at random.", min=0)] = 0,
    seed: shared.Seed = 0,
    data: Annotated[Text, shared.data_option(unset="as recorded")] = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Check a study or a pack: hashes, contents, plausibility; and repeat a sample of its runs.

    A repeated run is equal to the bit, equal within rounding, or different. The exit status is 1 if
    there is a problem, or a run fails or differs. Pass --data if the images are elsewhere.

    Example: `oodml study verify study.zip --runs 2 --data photos/`
    """
    from oodml.share.pack import study_folder
    from oodml.study.verification import find_problems, repeat_runs

    with study_folder(study) as folder:
        problems = find_problems(folder)
        options: Any = {"seed": seed, "data": data, "device": device, "trust_code": trust_code}
        repeats = repeat_runs(folder, runs, **options) if runs else []
    shared.show(
        [f"{study}: {len(problems) or 'no'} problems", *problems, *map(str, repeats)],
        next=("report", study) if runs else ("study", "verify", study, "--runs", 2),
        json={
            "problems": problems,
            "runs": [{"run": one.run.id, "outcome": one.outcome} for one in repeats],
        },
    )
    if problems or any(one.outcome in ("different", "failed") for one in repeats):
        raise typer.Exit(1)


def from_command(
    command: Annotated[str, argument("A command line of the original code, or a file with many.")],
    out: Annotated[Path, option("File to write: a study.")] = Path("study.toml"),
) -> None:
    """Turn command lines of the original code (ood_main.py and others) into a study file.

    Lines of several datasets, or with and without few-shot adaptation, become one file each.

    Example: `oodml study from-command 'python ood_main.py --loss margin --bs 112' --out study.toml`
    """
    from oodml.errors import error_at
    from oodml.files import write_text
    from oodml.study.spec.original_command import studies_from_text

    is_file = len(command) < 4096 and Path(command).is_file()
    text = Path(command).read_text("utf-8", "replace") if is_file else command
    studies, sentences, names = studies_from_text(text), [], []
    for study in studies:
        name = out.name if len(studies) == 1 else f"{out.stem}_{study.name}{out.suffix}"
        if (file := out.with_name(name)).exists():
            raise error_at(file, "exists already; choose another --out")
        write_text(file, study.text)
        names.append(file)
        sentences += [f"{flag}: {note}" for flag, note in study.notes.items()]
        sentences.append(f"{file}: {', '.join(study.tables['methods'])}")
    following = ("study", "run", names[0], "--data", "FOLDER", "--out", "results")
    shared.show(sentences, next=following)


def push(
    what: Annotated[str, argument("A model (run of a study or folder), or a split file.")],
    name: Repository,
    out: Annotated[File, option("Folder to write instead of uploading.", unset="upload")] = None,
) -> None:
    """Upload a model or splits with a card to the Hugging Face hub.

    Example: `oodml push results:margin user/name --out folder`
    """
    from tempfile import TemporaryDirectory

    from oodml.hub import parse_address, upload
    from oodml.share.hub_folder import write_model_folder, write_splits_folder
    from oodml.study.folder.named_run import run_folder

    repository = parse_address(name).repository
    with TemporaryDirectory() as temporary:
        folder = out or Path(temporary) / "files"
        run = run_folder(what) or Path(what)
        if (run / "model.json").exists():
            sentences = [write_model_folder(run, folder)]
        else:
            sentences = []
            write_splits_folder(Path(what), folder, repository)
        kind = "model" if (folder / "model.json").exists() else "dataset"
        sentences.append(f"wrote {folder}" if out else upload(folder, repository, kind))
    command = ("push", what, name) if out else ("pull", name, "--out", "folder")
    shared.show(sentences, next=command)


def pull(
    name: Repository,
    out: Annotated[Path, option("Folder to write.")],
    repo_type: Annotated[str, option("Type of the repository: model or splits.")] = "model",
) -> None:
    """Download a model or splits from the Hugging Face hub. Only data files, no code.

    Example: `oodml pull user/name --out folder`
    """
    from oodml.hub import download, parse_address
    from oodml.share.hub_folder import MODEL_FILES, SPLIT_FILES

    kinds = {"model": ("model", MODEL_FILES), "splits": ("dataset", SPLIT_FILES)}
    if repo_type not in kinds:
        raise unknown("type", repo_type, kinds, "--repo-type")
    download(parse_address(name), *kinds[repo_type], out)
    model = ("embed", "--data", "IMAGES", "--model", out, "--out", "vectors.npz")
    following = model if repo_type == "model" else ("splits", "show", out / "splits.json")
    shared.show(f"wrote {out}", next=following)


def check(
    name: Annotated[str, argument("An import path, module:Object, or a name.", metavar="PART")],
    kind: Annotated[Text, option("Kind of part, such as losses.", unset="by its arguments")] = None,
    options: Annotated[Words, option("KEY=VALUE; may be repeated.", "--option")] = None,
) -> None:
    """Check that your own loss, miner, method, network, dataset, or few-shot adapter works.

    It is tested against the same requirements as the parts of oodml. The exit status is 1 if a
    requirement is not met.

    Example: `oodml check mylab.losses:Foo --option margin=0.3`
    """
    from oodml.catalog import make_importable
    from oodml.checks import check as check_all
    from oodml.checks import kind_of

    make_importable(Path.cwd())
    kind = kind or kind_of(name)
    results = check_all(name, kind, dict(map(_parse_option, options or ())))
    heads = ("", "requirement", "problem and remedy")
    details = ["\n".join(filter(None, (one.problem, one.remedy))) for one in results]
    rows = [(r.mark, r.requirement, text) for r, text in zip(results, details, strict=True)]
    failed = sum(result.failed for result in results)
    shared.show(
        f"{failed} of {len(results)} requirements not met" if failed else "all requirements met",
        shared.Table(f"{name} ({kind})", heads, rows, heads),
        next=() if failed else ("study", "run", "study.toml", "--out", "results"),
        json=[{"requirement": requirement, "met": not one.failed, "problem": text}
              for one, (_, requirement, text) in zip(results, rows, strict=True)],
    )  # fmt: skip
    if failed:
        raise typer.Exit(1)


def _parse_option(text: str) -> tuple[str, Any]:
    import tomllib

    key, value = shared.parse_pair(text, "--option")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
