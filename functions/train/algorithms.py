"""The algorithms a caller may ask for, and what each of their parameters may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from sluice.ml.errors import InvalidInputError
from sluice.ml.fields import Fields
from sluice.ml.signature import Task


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyper-parameter: integer or number in [low, high], or one of `options` (None: unset)."""

    default: Any
    low: float = 0
    high: float = 0
    integer: bool = False
    options: tuple[Any, ...] = ()

    def read(self, fields: Fields, name: str) -> Any:
        """The caller's value, or the default. Raises InvalidInputError naming the parameter."""
        if self.options:
            return fields.choice(name, self.options, self.default)
        if self.integer:
            return fields.integer(name, int(self.low), int(self.high), self.default)
        return fields.number(name, self.low, self.high, self.default)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An estimator for each task it is for.

    tree: compares features with thresholds, so that scaling changes nothing but the rounding.
    seeded: takes a random_state. fixed: settings no caller changes.
    """

    estimators: Mapping[Task, Callable[..., Any]]
    parameters: Mapping[str, Parameter]
    tree: bool = False
    seeded: bool = True
    fixed: Mapping[str, Any] = field(default_factory=dict)


_BALANCE: Final = Parameter(None, options=("balanced",))
_TREES: Final[Mapping[str, Parameter]] = {
    "n_estimators": Parameter(100, 1, 1000, integer=True),
    "max_depth": Parameter(None, 1, 64, integer=True),
    "min_samples_split": Parameter(2, 2, 1_000_000, integer=True),
    "min_samples_leaf": Parameter(1, 1, 1_000_000, integer=True),
    "max_features": Parameter(None, 0.01, 1.0),
}

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "logistic": Algorithm(
        {"classification": LogisticRegression},
        {
            "C": Parameter(1.0, 1e-6, 1e6),
            "max_iter": Parameter(1000, 1, 100_000, integer=True),
            "class_weight": _BALANCE,
        },
    ),
    "linear": Algorithm({"regression": LinearRegression}, {}, seeded=False),
    "ridge": Algorithm({"regression": Ridge}, {"alpha": Parameter(1.0, 0.0, 1e9)}),
    "random_forest": Algorithm(
        {"classification": RandomForestClassifier, "regression": RandomForestRegressor},
        _TREES,
        tree=True,
    ),
    "extra_trees": Algorithm(
        {"classification": ExtraTreesClassifier, "regression": ExtraTreesRegressor},
        _TREES,
        tree=True,
    ),
    "hist_gradient_boosting": Algorithm(
        {
            "classification": HistGradientBoostingClassifier,
            "regression": HistGradientBoostingRegressor,
        },
        {
            "learning_rate": Parameter(0.1, 1e-4, 1.0),
            "max_iter": Parameter(100, 1, 2000, integer=True),
            "max_leaf_nodes": Parameter(31, 2, 1024, integer=True),
            "max_depth": Parameter(None, 1, 64, integer=True),
            "min_samples_leaf": Parameter(20, 1, 1_000_000, integer=True),
            "l2_regularization": Parameter(0.0, 0.0, 1e6),
        },
        tree=True,
        # By default it holds out rows above 10000 of them: results would depend on the row count.
        fixed={"early_stopping": False},
    ),
}


def read_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of an algorithm, checked. Raises InvalidInputError naming the parameter."""
    algorithm = ALGORITHMS[name]
    fields = Fields(given, prefix="parameters.")
    values = {key: rule.read(fields, key) for key, rule in algorithm.parameters.items()}
    fields.done()
    return values


def estimator(name: str, task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    """An unfitted estimator. Raises InvalidInputError where the algorithm is not for the task."""
    algorithm = ALGORITHMS[name]
    if task not in algorithm.estimators:
        fitting = ", ".join(key for key, other in ALGORITHMS.items() if task in other.estimators)
        raise InvalidInputError(
            f"field 'algorithm': {name!r} is not for a {task}, which the feature set is;"
            f" one of {fitting}"
        )
    settings = {key: value for key, value in parameters.items() if value is not None}
    if algorithm.seeded:
        settings["random_state"] = seed
    return algorithm.estimators[task](**settings, **algorithm.fixed)
