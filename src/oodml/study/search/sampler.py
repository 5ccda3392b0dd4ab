"""Which options to try next: optuna's tree-structured Parzen estimator, seeded."""

import warnings
from typing import TYPE_CHECKING, Any

from oodml.errors import OodmlError, install_command
from oodml.randomness import derived_seed
from oodml.study.spec.ranges import Choices, Range, SearchSettings
from oodml.study.spec.variants import Variant

if TYPE_CHECKING:
    import optuna


RANDOM_TRIALS = 8
"""Random trials before the sampler uses outcomes. It is fixed, so that a budget can be raised."""


class Sampler:
    """Samples the options of a method's trials: the defaults, then at random, then where good
    trials are denser than bad ones (Bergstra et al., 2011).
    """

    def __init__(self, variant: Variant, settings: SearchSettings) -> None:
        self._optuna = _import_optuna()
        self._variant, self._ranges = variant, variant.ranges
        self._distributions = {n: self._distribution(one) for n, one in variant.ranges.items()}
        self._pending: dict[int, optuna.Trial] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna calls two of these options experimental
            sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=RANDOM_TRIALS,
                multivariate=True,
                constant_liar=True,  # the trials of a round should differ
                seed=derived_seed(settings.seed, "search", variant.label) % 2**32,
            )
            self._study = self._optuna.create_study(direction="maximize", sampler=sampler)

    def sample(self, number: int) -> dict[str, Any]:
        """The values of a trial, as `Variant.with_values` takes them."""
        if number == 0:
            return {}
        self._pending[number] = trial = self._study.ask(self._distributions)
        return {name: one.value_of(trial.params[name]) for name, one in self._ranges.items()}

    def report(self, number: int, value: float | None) -> None:
        """Report the value of a trial; None if it failed, which counts as worse than any value."""
        states = self._optuna.trial.TrialState
        if number > 0:
            state = states.PRUNED if value is None else states.COMPLETE
            self._study.tell(self._pending[number], value, state=state)
            return
        # The first trial counts if the defaults lie in all ranges.
        params = {
            name: one.parameter_of(self._variant.value(name)) for name, one in self._ranges.items()
        }
        if value is not None and None not in params.values():
            create = self._optuna.trial.create_trial
            trial = create(params=params, distributions=self._distributions, value=value)
            self._study.add_trial(trial)

    def _distribution(self, one: Range) -> Any:
        distributions = self._optuna.distributions
        if isinstance(one, Choices):
            return distributions.CategoricalDistribution(range(len(one.values)))
        if one.whole:
            return distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
        return distributions.FloatDistribution(one.low, one.high, log=one.log)


def sampler_name() -> str:
    return f"TPE of optuna {_import_optuna().__version__}"


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        problem = f"the study has a search, which needs optuna. Run `{install_command('search')}`."
        raise OodmlError(problem, location="search") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
