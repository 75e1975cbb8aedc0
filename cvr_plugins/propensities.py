"""Click propensities that are known before training: models of the click, fitted to a training log, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cvr_plugins.contracts import CTR_TOWER
from cvr_plugins.nearest import unknown
from cvr_plugins.options import check_flag
from cvr_plugins.wording import first_line

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from cvr_plugins.data import FunnelLog, Vocabulary


class PropensityModel(ABC):
    """The probability of a click, `P(o = 1 | x)`, learnt from the exposures of a training log, clicked or not.

    `fit` learns it, `predict` gives it for any log of the same columns. Options are keyword-only.

    Notes
    -----
    An objective clips the probabilities to [propensity_floor, 1].
    """

    @abstractmethod
    def fit(self, train: FunnelLog) -> PropensityModel:
        """Learn from a training log and return itself; raise DataError if that is impossible."""
        raise NotImplementedError  # pragma: no cover

    @abstractmethod
    def predict(self, log: FunnelLog) -> np.ndarray:
        """Return the propensity of each row, `[N]`, float64 in [0, 1]."""
        raise NotImplementedError  # pragma: no cover


class Uniform(PropensityModel):
    """The click rate of the training log, for every row: every clicked row weighs the same."""

    def fit(self, train: FunnelLog) -> Uniform:
        """Take the click rate."""
        self.rate = float(train.labels()["click"].mean(dtype=np.float64))
        return self

    def predict(self, log: FunnelLog) -> np.ndarray:
        """Return the click rate for each row, `[N]`."""
        return np.full(len(log), self.rate)


class Column(PropensityModel):
    """The log's own propensity column, for simulations, randomised logs and propensities estimated elsewhere."""

    def fit(self, train: FunnelLog) -> Column:
        """Check that there is such a column; raise DataError if there is none."""
        self._column(train)
        return self

    def predict(self, log: FunnelLog) -> np.ndarray:
        """Return the column, `[N]`."""
        return log.frame[self._column(log)].to_numpy(dtype=np.float64)

    def _column(self, log: FunnelLog) -> str:
        from cvr_plugins.data import DataError

        if log.schema.propensity is None:
            raise DataError(
                f"Log {log.name!r} has no propensity column, which propensity 'column' reads; name it with "
                "PROPENSITY_FIELD, or choose a propensity that is estimated, such as 'logistic_ids'."
            )
        return log.schema.propensity


class _Logistic(PropensityModel):
    """Additive logistic regression on one-hot tokens, bags of sequence tokens and standardised dense values.

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty.
    max_iter
        Iterations of the solver (scikit-learn's L-BFGS).
    """

    def __init__(self, *, C: float = 1.0, max_iter: int = 1000) -> None:
        self.C = C
        self.max_iter = max_iter

    def fit(self, train: FunnelLog) -> _Logistic:
        """Fit the coefficients.

        Raises
        ------
        DataError
            For a log without the features, or with one class of clicks.
        ValueError
            For options that scikit-learn refuses.
        """
        from sklearn.linear_model import LogisticRegression

        from cvr_plugins.data import DataError, Vocabulary

        click = train.labels()["click"]
        if click.min() == click.max():
            raise DataError(
                f"Log {train.name!r}: click is {int(click[0])} in all {len(click):,} rows, so that no propensity can "
                "be estimated; use a log with clicked and unclicked exposures."
            )
        self._vocabulary = Vocabulary.fit(self._restricted(train))
        try:
            self._regression = LogisticRegression(C=self.C, max_iter=self.max_iter)
            self._regression.fit(self._design(train), click)
        except ValueError as error:
            made = f"{type(self).__name__}(C={self.C!r}, max_iter={self.max_iter!r})"
            raise ValueError(f"{made}: {first_line(error)}.") from error
        return self

    def predict(self, log: FunnelLog) -> np.ndarray:
        """Return the estimated probabilities of a click, `[N]`; a token that training did not hold counts for none."""
        probabilities: np.ndarray = self._regression.predict_proba(self._design(log))[:, 1]
        return probabilities

    def _design(self, log: FunnelLog) -> csr_matrix:
        from scipy import sparse

        return sparse.hstack(list(_columns(self._vocabulary, log).values()), format="csr")

    @abstractmethod
    def _restricted(self, log: FunnelLog) -> FunnelLog:
        """Return the log with the features that the regression is on."""
        raise NotImplementedError  # pragma: no cover


class LogisticIds(_Logistic):
    """Logistic regression on the user and the item id: `logit p = a + b_user + c_item`.

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty.
    max_iter
        Iterations of the solver.

    Notes
    -----
    Useless where every user, or every item, is clicked equally often by design, as the users of Coat.
    """

    def _restricted(self, log: FunnelLog) -> FunnelLog:
        return replace(log, schema=replace(log.schema, features=(), id_features=True))


class LogisticFeatures(_Logistic):
    """Logistic regression on all features but the two ids, each token with a coefficient of its own.

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty.
    max_iter
        Iterations of the solver.
    crossed
        Also a coefficient for the product of each column of a user feature with each of an item feature, so that the
        click may depend on how the two fit.

    Raises
    ------
    ValueError
        If `crossed` is neither true nor false.
    """

    def __init__(self, *, C: float = 1.0, max_iter: int = 1000, crossed: bool = False) -> None:
        super().__init__(C=C, max_iter=max_iter)
        self.crossed = check_flag("crossed", crossed)

    def _design(self, log: FunnelLog) -> csr_matrix:
        from scipy import sparse

        columns = _columns(self._vocabulary, log)
        sides = {feature.name: feature.side for feature in log.schema.features}
        of_side = [[block for name, block in columns.items() if sides[name] == side] for side in ("user", "item")]
        crosses = []
        if self.crossed and all(of_side):
            crosses = [_products(*(sparse.hstack(blocks, format="csr") for blocks in of_side))]
        return sparse.hstack([*columns.values(), *crosses], format="csr")

    def _restricted(self, log: FunnelLog) -> FunnelLog:
        from cvr_plugins.data import DataError

        schema = log.schema
        features = tuple(f for f in schema.features if f.name not in (schema.user, schema.item))
        if not features:
            raise DataError(
                f"Log {log.name!r} has no feature besides the user and the item id, which propensity "
                "'logistic_features' is estimated from; choose 'logistic_ids'."
            )
        return replace(log, schema=replace(schema, features=features, id_features=False))


PROPENSITIES: Mapping[str, type[PropensityModel]] = {
    "logistic_ids": LogisticIds,
    "logistic_features": LogisticFeatures,
    "column": Column,
    "uniform": Uniform,
}
"""Every propensity model by the name that the option `propensity` has for it."""

NAMES = (CTR_TOWER, *PROPENSITIES)
"""The values of the option `propensity`."""


def fit_propensity(name: str, train: FunnelLog, **options: Any) -> PropensityModel:
    """Fit the propensity model of a name to a training log.

    Parameters
    ----------
    name
        One of `PROPENSITIES`.
    train
        The training log.
    **options
        Of the model's constructor.

    Raises
    ------
    ValueError
        For another name, with the nearest, and for options that the model does not take.
    DataError
        If it cannot be fitted to this log.
    """
    model = PROPENSITIES.get(name)
    if model is None:
        raise ValueError(unknown(f"Unknown propensity model {name!r}.", name, PROPENSITIES))
    try:
        made = model(**options)
    except TypeError as error:
        raise ValueError(f"Propensity {name!r} does not take the options {options!r}: {error}.") from error
    return made.fit(train)


def describe(name: str, propensities: np.ndarray, floor: float) -> str:
    """Say in one line what the propensities of a training log are, and how many the floor raises."""
    below = int((propensities < floor).sum())
    return (
        f"Propensity {name}: mean {propensities.mean():.4f}, from {propensities.min():.4f} to "
        f"{propensities.max():.4f}; {below:,} of {len(propensities):,} rows are below the floor {floor:g}."
    )


def _columns(vocabulary: Vocabulary, log: FunnelLog) -> dict[str, csr_matrix]:
    """Return the design matrix of each of a log's features, `[N, columns]`, a column per token or one dense value."""
    from scipy import sparse

    from cvr_plugins.data.encoding import MISSING

    encoded = vocabulary.transform(log)
    count = len(encoded)
    found = {}
    for position, name in enumerate(encoded.sparse_names):
        ids = encoded.sparse[:, position]
        shape = (count, vocabulary.sizes[name])
        found[name] = sparse.csr_matrix((np.ones(count), ids, np.arange(count + 1)), shape=shape)
    for name, padded in encoded.sequences.items():
        row, place = np.nonzero(padded != MISSING)
        shape = (count, vocabulary.sizes[name])
        bag = sparse.csr_matrix((np.ones(len(row)), (row, padded[row, place])), shape=shape)
        bag.data[:] = 1.0
        found[name] = bag
    for position, name in enumerate(encoded.dense_names):
        mean, deviation = vocabulary.dense_stats[name]
        found[name] = sparse.csr_matrix((encoded.dense[:, [position]] - mean) / deviation)
    return found


def _products(left: csr_matrix, right: csr_matrix) -> csr_matrix:
    """Return the products of each column of one matrix with each of another, `[N, columns * columns]`, sparse."""
    from scipy import sparse

    count = left.shape[0]
    row = np.repeat(np.arange(count), np.diff(left.indptr))
    # Each entry of a row on the left meets all entries of that row on the right.
    of_row = np.diff(right.indptr)[row]
    entry = np.repeat(np.arange(len(row)), of_row)
    nth = np.arange(len(entry)) - np.repeat(np.cumsum(of_row) - of_row, of_row)
    other = right.indptr[row[entry]] + nth
    column = left.indices[entry].astype(np.int64) * right.shape[1] + right.indices[other]
    values = left.data[entry] * right.data[other]
    return sparse.csr_matrix((values, (row[entry], column)), shape=(count, left.shape[1] * right.shape[1]))
