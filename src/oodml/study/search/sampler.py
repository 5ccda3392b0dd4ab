"""Which options to try next: optuna's tree-structured Parzen estimator, seeded."""

import warnings
from typing import TYPE_CHECKING, Any

from oodml.errors import OodmlError
from oodml.randomness import derived_seed
from oodml.study.spec.ranges import Choices, Range, SearchSettings
from oodml.study.spec.variants import Variant

if TYPE_CHECKING:
    import optuna


RANDOM = 8
"""Trials before what they gave is used; the same for every budget, so that it can be raised."""


class Sampler:
    """Draws the options of a method's trials.

    The first trial is the defaults. The next ones are drawn at random, those after them where good
    trials lie more densely than bad ones (Bergstra et al., 2011).
    """

    def __init__(self, variant: Variant, settings: SearchSettings) -> None:
        self._optuna = _optuna()
        self._arm = variant
        self._spaces = {name: self._space(one) for name, one in variant.ranges.items()}
        self._asked: dict[int, optuna.Trial] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two of these options are called experimental
            sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=RANDOM,
                multivariate=True,
                constant_liar=True,  # the trials of a round should differ
                seed=derived_seed(settings.seed, "search", variant.label) % 2**32,
            )
            self._study = self._optuna.create_study(direction="maximize", sampler=sampler)

    def ask(self, number: int) -> dict[str, Any]:
        """The values of a trial, as `Variant.with_values` takes them."""
        if number == 0:
            return {}
        self._asked[number] = trial = self._study.ask(self._spaces)
        return {name: _value(one, trial.params[name]) for name, one in self._arm.ranges.items()}

    def tell(self, number: int, value: float | None) -> None:
        """What a trial came to; None if it failed, which counts as worse than any value."""
        states = self._optuna.trial.TrialState
        if number == 0:
            self._tell_defaults(value)
        elif value is None:
            self._study.tell(self._asked[number], state=states.PRUNED)
        else:
            self._study.tell(self._asked[number], value)

    def _tell_defaults(self, value: float | None) -> None:
        """The defaults teach the sampler something where every one of them lies in its range."""
        places = {name: _place(one, self._arm.value(name)) for name, one in
                  self._arm.ranges.items()}  # fmt: skip
        if value is None or None in places.values():
            return
        self._study.add_trial(
            self._optuna.trial.create_trial(params=places, distributions=self._spaces, value=value)
        )

    def _space(self, one: Range) -> Any:
        distributions = self._optuna.distributions
        if isinstance(one, Choices):
            return distributions.CategoricalDistribution(range(len(one.values)))
        if one.whole:
            return distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
        return distributions.FloatDistribution(one.low, one.high, log=one.log)


def sampler_name() -> str:
    """What draws, for the record."""
    return f"TPE of optuna {_optuna().__version__}"


def _value(one: Range, drawn: Any) -> Any:
    return one.values[drawn] if isinstance(one, Choices) else one.value(drawn)


def _place(one: Range, value: Any) -> Any:
    """What the sampler would have drawn for a value; None if it can't draw it."""
    if isinstance(one, Choices):
        return one.values.index(value) if value in one.values else None
    if isinstance(value, bool | str) or value is None or not one.low <= value <= one.high:
        return None
    return value


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise OodmlError("optuna is not installed, and the study has a search; "
                         "pip install 'oodml[search]'") from error  # fmt: skip
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
