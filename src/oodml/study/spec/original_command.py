"""Command lines of the original code as studies, on the data and splits of the paper's studies.

`original_flags.toml` states what becomes of each flag.
"""

import re
import shlex
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import tomli_w

from oodml.errors import OodmlError, error_at, invalid, unknown
from oodml.study.spec.shipped import shipped_studies

SCRIPTS = ("fewshot_diva_ood_main.py", "fewshot_ood_main.py", "ood_diva_main.py", "ood_main.py")
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
PAPER_ITERATIONS = {2: 1000, 5: 1500}


class Flag(NamedTuple):
    """A flag of the original code: its default, "map", "local", "none", or "fixed", and where."""

    default: Any
    kind: str
    text: str


@dataclass
class OriginalStudy:
    name: str
    tables: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        notes = {"From command lines of the original code": "flag by flag."} | self.notes
        head = "".join(f"# {flag}: {note}\n" for flag, note in notes.items())
        return f"{head}\n{tomli_w.dumps(self.tables)}"


class Values(dict[str, Any]):
    """The values of the flags of a command; those that it does not give have their defaults."""

    def __missing__(self, flag: str) -> Any:
        default = original_flags()[flag].default
        words = default if isinstance(default, list) else [default]
        return default if isinstance(default, bool) else _convert(flag, words)


@cache
def _tables() -> dict[str, Any]:
    text = files("oodml.study.spec").joinpath("original_flags.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def original_flags() -> dict[str, Flag]:
    both = _tables()["parameters"] | _tables()["scripts"]
    return {name: Flag(*one) for name, one in both.items()}


def studies_from_text(text: str) -> list[OriginalStudy]:
    """The studies of a command line, or of a shell script with many: one per dataset and kind."""
    lines = [line.strip() for line in re.sub(r"\\\r?\n", " ", text).splitlines()]
    commands = [one for one in lines if one[:1] != "#" and any(name in one for name in SCRIPTS)]
    if not commands:
        problem = f"no command of the original code, `python` with one of {', '.join(SCRIPTS)}"
        raise OodmlError(problem, given=text[:200], allowed=SCRIPTS)
    studies: dict[str, OriginalStudy] = {}
    for line in commands:
        _add_command(studies, *_parse(line))
    return [*studies.values()]


def _parse(line: str) -> tuple[str, Values]:
    words = shlex.split(line.rstrip("; &"), comments=True)
    start = next(n for n, word in enumerate(words) if word.endswith(SCRIPTS))
    given: dict[str, list[str]] = {}
    for word in words[start + 1 :]:
        flag, equals, value = word.partition("=")
        if re.match(r"--\w", word):
            matches = [name for name in original_flags() if name.startswith(flag)]
            if flag not in matches and len(matches) != 1:
                raise unknown("flag", flag, original_flags(), "original command")
            name = flag if flag in matches else matches[0]
            given[name] = [value] if equals else []
        elif given and word not in ("&", "&&", ";", "done"):
            given[name].append(word)
    values = Values({flag: _convert(flag, own) for flag, own in given.items()})
    return words[start].rpartition("/")[2], values


def _convert(flag: str, words: list[str]) -> Any:
    """The value of a flag: True, the name of its choice in a study, numbers, or text."""
    default, kind, _ = original_flags()[flag]
    choices, is_list = _tables()["choices"].get(flag), isinstance(default, list)
    if isinstance(default, bool):
        return True
    if not words:
        raise error_at(flag, "a value is missing")
    if choices is not None:
        if words[0] not in choices:
            raise unknown("value", words[0], choices, flag)
        return choices[words[0]]
    values: list[Any] = words
    if kind in ("map", "fixed") and NUMBER.fullmatch(default[0] if is_list else default):
        try:
            values = [int(n) if n.is_integer() else n for n in map(float, words)]
        except ValueError:
            raise invalid(flag, words, "expected a number") from None
    return values if is_list else values[0]


def _add_command(studies: dict[str, OriginalStudy], script: str, values: Values) -> None:
    _refuse_fixed(values)
    few_shot, data = script.startswith("fewshot"), values["--dataset"]
    name = f"{data}_{'few' if few_shot else 'zero'}_shot"
    paper = tomllib.loads(shipped_studies()[f"paper_{name[len(data) + 1 :]}_{data}"])
    start = {key: paper[key] for key in ("data", "splits", "model")} | {"seeds": [], "methods": {}}
    study = studies.setdefault(name, OriginalStudy(name, start))
    for flag in values:
        if original_flags()[flag].kind in ("local", "none"):
            study.notes[flag] = original_flags()[flag].text
    if "--new_test_dataset" in values:
        study.tables["test_data"] = [values["--new_test_dataset"]]
    table = _method(values, script, paper["methods"]["diva"])
    table |= {"model": _model(values, table["method"]), "train": _train(values, few_shot)}
    if few_shot:
        if script == "fewshot_diva_ood_main.py":
            values = Values({"--finetune_iter": 20, "--finetune_shots": 0} | values)
        table["adapt"] = _adapt(values)
        study.tables["shots"] = sorted({*study.tables.get("shots", ()), values["--finetune_shots"]})
    study.tables["seeds"] = sorted({*study.tables["seeds"], values["--seed"]})
    methods, label = study.tables["methods"], table["method"]
    suffixes = [re.sub(r"\W+", "_", values["--group"]), *map(str, range(3, 1000))]
    while methods.get(label, table) != table:  # the same method with other settings
        label = f"{table['method']}_{suffixes.pop(0)}"
    methods[label] = table


def _refuse_fixed(values: Values) -> None:
    constant = values["--scheduler"] == "none" or values["--tau"][0] > values["--n_epochs"]
    for flag, value in values.items():
        default, kind, text = original_flags()[flag]
        allowed = value == Values()[flag] or (flag, value) == ("--scheduler", "none")
        if flag in ("--tau", "--gamma"):
            allowed = constant
        if kind == "fixed" and not allowed:
            problem = f"{flag} {value}: a study cannot have this value: {text}"
            raise OodmlError(problem, flag, value, (str(default),))


def _method(values: Values, script: str, paper_diva: dict[str, Any]) -> dict[str, Any]:
    name = "diva" if "diva" in script else values["--loss"]
    if name == "margin" and values["--with_entropy"]:
        name = "uniform_prior"
    elif name == "margin" and values["--batch_mining"] == "rho_distance":
        name = "r_margin"
    constant = name in ("margin", "r_margin") and values["--loss_margin_beta_constant"]
    variant = values["--loss_oproxy_euclidean"] or values["--loss_oproxy_mode"] != "anchor"
    if constant or name not in _tables()["methods"] or (name == "proxy_anchor" and variant):
        return _criterion(values, "margin" if constant else name)
    options = _options(values, _tables()["methods"][name])
    if name == "margin":
        options |= _miner(values)
    elif name == "uniform_prior":
        options["discriminator_lr"] *= values["--lr"]
    elif name == "s2sd":
        options |= _s2sd(values)
    elif name == "diva":
        options["separation"] = _only(options["separation"], "--diva_rho_decorrelation")
        options["part_weights"] = paper_diva["part_weights"]
        if options["queue_batches"] == Values()["--diva_moco_n_key_batches"]:
            options["queue_batches"] = paper_diva["queue_batches"]
    return {"method": name, **options}


def _criterion(values: Values, loss: str) -> dict[str, Any]:
    spec = _tables()["criteria"][loss]
    options = _options(values, spec) | spec.get("fixed", {})
    if loss == "proxy_nca":
        squared, cosine = (values[f"--loss_proxynca_{k}_dist"] for k in ("sq", "cosine"))
        options["similarity"] = "cosine" if cosine else "squared" if squared else "euclidean"
    if loss == "proxy_anchor" and values["--loss_oproxy_euclidean"]:
        options["similarity"] = "euclidean"
    miner = _miner(values) if spec.get("mined") else {}
    return {"method": "criterion", "loss": loss, "loss_options": options, **miner}


def _s2sd(values: Values) -> dict[str, Any]:
    """The inner loss of s2sd, whose β trains with the rate of the network."""
    off = {} if values["--loss_s2sd_feat_distill"] else {"feature_weight": 0}
    options = _options(values, _tables()["methods"][values["--loss_s2sd_source"]])
    if values["--loss_s2sd_source"] == "multisimilarity":  # it selects its pairs itself
        return off | {"loss_options": options, "miner": ""}
    return off | {"loss_options": options | {"beta_lr": values["--lr"]}} | _miner(values)


def _miner(values: Values) -> dict[str, Any]:
    miner, probability = values["--batch_mining"], values["--miner_rho_distance_cp"]
    options = {"miner_options": {"probability": probability}} if miner == "rho_distance" else {}
    return {"miner": miner} | options


def _model(values: Values, method: str) -> dict[str, Any]:
    name, *parts = values["--arch"].removeprefix("multifeature_").split("_")
    if wrong := set(parts) - {"frozen", "normalize", "double"}:
        raise unknown("part", min(wrong), ("frozen", "normalize", "double"), "--arch")
    if name not in (backbones := _tables()["backbones"]):
        raise unknown("value", name, backbones, "--arch")
    double = "double" in parts or (method == "s2sd" and values["--loss_s2sd_pool_aggr"])
    return {
        "backbone": backbones[name],
        "mode": "finetune",
        "dim": values["--embed_dim"] * (4 if method == "diva" else 1),
        "pooling": "avg+max" if double else "avg",
        "augmentation": values["--augmentation"],
        "normalize": "normalize" in parts,
        "freeze_batch_norm": "frozen" in parts,
        **{"input_cache": "off"} | ({"weights": "none"} if values["--not_pretrained"] else {}),
    }


def _train(values: Values, few_shot: bool) -> dict[str, Any]:
    train = _options(values, _tables()["train"])
    if train["head_lr"] < 0:
        del train["head_lr"]
    return train | ({"select": "recall@1+map@1000"} if few_shot else {"refit": True})


def _adapt(values: Values) -> dict[str, Any]:
    shots, steps = values["--finetune_shots"], values["--finetune_iter"]
    if shots < 1:
        raise OodmlError("--finetune_shots 0: nothing to adapt to", location="--finetune_shots")
    return {
        "objective": values["--finetune_criterion"],
        "layers": "last" if values["--finetune_only_last"] else "all",
        "optimizer": values["--finetune_optim"],
        "lr": values["--lr"] * values["--finetune_lr_multi"],
        **_options(values, _tables()["methods"]["margin"]),
        "iterations": "paper" if PAPER_ITERATIONS.get(shots) == steps else steps,
    }


def _options(values: Values, spec: dict[str, Any]) -> dict[str, Any]:
    for flags in spec.get("equal", ()):
        _only([values[flag] for flag in flags], ", ".join(flags))
    return {name: values[flag] for name, flag in spec["options"].items()}


def _only(values: list[Any], flags: str) -> Any:
    if any(one != values[0] for one in values):
        raise error_at(flags, f"must be equal; given {values}", values)
    return values[0]
