"""The study file: a TOML file that names data, splits, methods, seeds, and shots."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from oodml.backbones import VECTORS
from oodml.catalog import get_class, make_importable, names
from oodml.datasets import is_import_path, is_vector_file, open_images
from oodml.errors import OodmlError, error_at, suggest, unknown
from oodml.images.decode import parse_background
from oodml.images.fingerprint import fingerprint
from oodml.images.image_set import ImageSet, pixels_error
from oodml.shift.build import SplitSettings
from oodml.study.spec.ranges import SearchSettings, Seed, parse_search
from oodml.study.spec.tables import Key, Problems, Table, option_schema, parse_settings
from oodml.study.spec.variants import PARTS, Variant, check_part, parse_variants, refuse_repeats


class DataOptions(BaseModel):
    """Options that `open_images` accepts for every dataset."""

    few: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=1)]] | None = None
    skip_corrupt: bool = False
    background: str = "white"

    @field_validator("background")
    @classmethod
    def _check_background(cls, value: str) -> str:
        parse_background(value)
        return value


class Source(BaseModel):
    """The images of a study: a dataset's name or a path, and the options of its reader."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)

    def open(self) -> ImageSet:
        """The images."""
        return open_images(self.name, **self.options)

    def fingerprint(self) -> str:
        """The fingerprint of the images."""
        return fingerprint(self.open())


class SplitFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path


class Study(BaseModel):
    """What to run: every variant on every split of the progression with every seed.

    `test_data` are the further datasets to test every model on, each with its name in the results,
    or "" for the dataset's own name; `chosen` is how a search chose the options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str
    data: Source
    variants: tuple[Variant, ...]
    splits: SplitSettings | SplitFile
    shots: tuple[int, ...] = ()
    episodes: int = 10
    test_data: tuple[tuple[str, Source], ...] = ()
    search: SearchSettings | None = None
    chosen: Mapping[str, Any] | None = None
    text: str = ""

    @property
    def data_names(self) -> tuple[str, ...]:
        return (self.data.name, *(source.name for _, source in self.test_data))


class StudyKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    data: str | Table = Field(examples=['data = "photos"'])
    methods: list[str] | dict[str, Table] = Field(
        min_length=1, examples=['methods = ["margin", "frozen"]']
    )
    name: str | None = Field(None, min_length=1)
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    shots: tuple[Annotated[int, Field(ge=1)], ...] = ()
    episodes: int = Field(10, ge=1)
    test_data: list[str | Table] | dict[str, str | Table] = Field(default_factory=list)
    splits: Table = Field(default_factory=dict)
    model: Table = Field(default_factory=dict)
    train: Table = Field(default_factory=dict)
    adapt: Table = Field(default_factory=dict)
    search: Any = None


def read_study(path: str | Path) -> Study:
    """Read and check a study file; errors name the file, the key, the given value, and the allowed.

    Relative paths in the file start at its folder. Import paths reach the modules in its folder and
    in the current folder.
    """
    file = Path(path)
    text = read_toml_text(file)
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise error_at(file, f"not a TOML file: {error}") from error
    make_importable(file.parent, Path.cwd())
    return parse_study(tables, file).model_copy(update={"text": text})


def read_toml_text(file: Path) -> str:
    """The text of a study file; a byte-order mark at its start is ignored."""
    if file.is_dir():
        raise error_at(file, _describe_folder(file))
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        files = [path.name for path in sorted(file.parent.glob("*.toml"))]
        problem = f"no such study file.{suggest(file.name, files)}"
        raise error_at(file, problem, allowed=files) from error
    except OSError as error:
        raise error_at(file, f"cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        problem = f"not a TOML file, which is UTF-8 text: {error}. Save it as UTF-8."
        raise error_at(file, problem) from error


def _describe_folder(folder: Path) -> str:
    study, studies = folder / "study.toml", sorted(folder.glob("*.toml"))
    if (folder / "plan.json").exists():
        resume = f"To resume the study, run `oodml study run {study} --out {folder}`"
        status = f"to see its state, run `oodml study status {folder}`"
        return f"a folder of results, not a study file. {resume}; {status}"
    if studies:
        return f"a folder, not a study file. Run a file in it: `oodml study run {studies[0]}`"
    remedy = f"run `oodml study init {folder}` to write a study file for them"
    return f"a folder, not a study file. If it contains images, {remedy}"


def parse_study(tables: Table, file: Path) -> Study:
    top, problems = Key(file), Problems()
    with problems:
        keys = parse_settings(StudyKeys, tables, top)
    for part, kind in PARTS.items():
        with problems:
            check_part(kind, tables.get(part, {}), top / part, "search" in tables)
    problems.raise_all()
    source = _parse_source(keys.data, top / "data")
    if is_vector_file(Path(source.name)):
        keys = _vector_keys(keys, top)
    bases = {"model": keys.model, "train": keys.train, "adapt": keys.adapt}
    search = parse_search(keys.search, top / "search")
    methods = keys.methods if isinstance(keys.methods, dict) else {key: {} for key in keys.methods}
    variants = tuple(parse_variants(methods, bases, keys.seeds, file, search is not None))
    refuse_repeats(variants, file)
    if search is not None and not any(variant.ranges for variant in variants):
        problem = "no key has a range. List values, or write {low = 1e-5, high = 1e-2, log = true}"
        where = "for an option of a method or for a key of [train] or [model]"
        raise error_at(top / "search", f"{problem}, {where}")
    if isinstance(keys.test_data, dict):
        further = [(name, top / "test_data" / name, one) for name, one in keys.test_data.items()]
    else:
        listed = enumerate(keys.test_data)
        further = [("", Key(file, f"test_data[{number}]"), one) for number, one in listed]
    return Study(
        name=keys.name or file.stem,
        data=source,
        test_data=tuple((name, _parse_source(one, key)) for name, key, one in further),
        variants=variants,
        splits=_parse_splits(keys.splits, keys.model, top / "splits"),
        shots=tuple(dict.fromkeys(keys.shots)),
        episodes=keys.episodes,
        search=search,
    )


def _parse_source(data: str | Table, key: Key) -> Source:
    if isinstance(data, str):
        return Source(name=_locate(data, key))
    options = dict(data)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise (key / "name").error(name, "expected a dataset's name or a path")
    common = {name: options[name] for name in DataOptions.model_fields if name in options}
    parse_settings(DataOptions, common, key)
    if isinstance(options.get("root"), str):
        options["root"] = str(key.resolve(options["root"]))
    if name in names("datasets"):
        schema = option_schema(get_class("datasets", name), ())
        allowed = ["name", *DataOptions.model_fields, *schema.model_fields]
        extra = [option for option in options if option not in allowed]
        if extra and schema.model_config.get("extra") == "forbid":
            raise unknown("key", extra[0], allowed, str(key))
    return Source(name=_locate(name, key / "name"), options=options)


def _vector_keys(keys: StudyKeys, top: Key) -> StudyKeys:
    """The keys of a study on vectors, which has no network and one view of each row."""
    for part, table in (("model", keys.model), ("splits", keys.splits)):
        if table.get("backbone", VECTORS) != VECTORS:
            problem = "the data are vectors, which no network embeds again; remove the key"
            raise (top / part / "backbone").error(table["backbone"], problem)
    methods = keys.methods.values() if isinstance(keys.methods, dict) else ()
    for table in ({"model": keys.model, "adapt": keys.adapt}, *methods):
        for part, field, allowed in (("model", "mode", "head"), ("adapt", "layers", "last")):
            if table.get(part, {}).get(field, allowed) != allowed:
                raise pixels_error(str(keys.data), str(top / part / field))
    splits = keys.splits if "file" in keys.splits else keys.splits | {"backbone": VECTORS}
    model = {"views": 1} | keys.model | {"backbone": VECTORS}
    return keys.model_copy(
        update={"model": model, "splits": splits, "adapt": {"views": 1} | keys.adapt}
    )


def _locate(name: str, key: Key) -> str:
    """A dataset's name or import path as it is, and any other path as an absolute path."""
    if not name.strip():
        raise key.error(name, "expected a dataset's name or a path")
    path = key.resolve(name)
    if name in names("datasets") or name.startswith("hf:"):
        return name
    if path.exists():
        return str(path)
    if is_import_path(name):
        return name
    error = unknown("dataset", name, names("datasets"), str(key))
    problem = f"{error} A path of a folder or table is allowed as well, but {path} does not exist."
    raise OodmlError(problem, error.location, name, error.allowed)


def _parse_splits(table: Table, model: Table, key: Key) -> SplitSettings | SplitFile:
    """The splits. Unless set otherwise, shift is measured on the images as the models see them."""
    if "file" in table:
        path = key.resolve(parse_settings(SplitFile, table, key).file)
        if not path.is_file():
            raise (key / "file").error(table["file"], f"{path} does not exist")
        return SplitFile(file=path)
    shared = {
        name: model[name] for name in ("image_size", "augmentation", "pooling") if name in model
    }
    single = {k: value for k, value in shared.items() if not isinstance(value, list | dict)}
    return (key / "weights").resolve_weights(parse_settings(SplitSettings, single | table, key))
