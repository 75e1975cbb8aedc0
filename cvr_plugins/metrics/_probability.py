"""Metrics of predicted probabilities: log loss, calibration and expected calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cvr_plugins.metrics._checks import Bools, Floats, Ints, as_labels, as_probabilities, same_length
from cvr_plugins.nearest import unknown
from cvr_plugins.options import check_count

_STRATEGIES = ("uniform", "quantile")

EPSILON = 2.0**-52
"""Least probability of the observed label that `log_loss` counts with: the spacing of float64 at 1."""


def checked_columns(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Bools, Floats]:
    """Return labels as booleans and probabilities as floats; raise ValueError as `expected_calibration_error` does."""
    positive, checked = as_labels(labels), as_probabilities(probabilities)
    same_length(labels=positive, probabilities=checked)
    return positive, checked


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Mean binary cross-entropy, `-mean_i log max(q_i, EPSILON)`, with `q_i = p_i` where y_i = 1, else `1 - p_i`.

    Computed in float64. A prediction of exactly 0 or 1 that is wrong costs `-log EPSILON` = 36.04 nats rather than
    infinity; EPSILON = 2^-52 is scikit-learn's for float64, used here for float32 predictions as well.

    Parameters
    ----------
    labels
        y, 0/1, `[N]`.
    probabilities
        p, in [0, 1], `[N]`.

    Returns
    -------
    float or None
        None where undefined: no rows.

    Raises
    ------
    ValueError
        On unequal lengths, non-binary labels and probabilities outside [0, 1].
    """
    positive, checked = checked_columns(labels, probabilities)
    if not len(positive):
        return None
    observed = checked.astype(np.float64)
    np.subtract(1.0, observed, out=observed, where=~positive)
    np.log(np.maximum(observed, EPSILON, out=observed), out=observed)
    return abs(float(observed.mean()))  # a sum of logarithms <= 0; abs rather than minus, which would make -0.0


def calibration(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Ratio of mean prediction to mean label, `mean_i p_i / mean_i y_i`; best is 1, above 1 predicts too much.

    Parameters
    ----------
    labels, probabilities
        As for `log_loss`, errors included.

    Returns
    -------
    float or None
        None where undefined: no positive row.
    """
    positive, checked = checked_columns(labels, probabilities)
    positives = int(positive.sum())
    return float(checked.sum(dtype=np.float64)) / positives if positives else None


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10, strategy: str = "uniform"
) -> float | None:
    """Expected calibration error, `sum_b n_b / N * |mean_b p - mean_b y|` over the bins b of the predictions.

    Bins are half-open, `(e_{b-1}, e_b]`, the first with 0. Conversion rates are small: with equal widths most rows fall
    into the first bin, and "quantile" says more.

    Parameters
    ----------
    labels, probabilities
        As for `log_loss`, errors included.
    bins
        How many, at least 1.
    strategy
        "uniform": `e_b = b / bins`. "quantile": `e_b` is the smallest prediction with a share of at least `b / bins` of
        the rows at or below it; equal predictions are never split, so heavy ties leave fewer bins.

    Returns
    -------
    float or None
        None where undefined: no rows.

    Raises
    ------
    ValueError
        For `bins` that is not a positive integer and an unknown strategy, too.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3 (uniform).
    """
    positive, checked = checked_columns(labels, probabilities)
    predicted = checked.astype(np.float64)
    bin_of_row = bins_of(predicted, bins=bins, strategy=strategy)
    if not len(positive):
        return None
    # Within a bin, n_b / N * |mean p - mean y| is |sum p - sum y| / N.
    gaps = np.bincount(bin_of_row, weights=predicted) - np.bincount(bin_of_row, weights=positive)
    return float(np.abs(gaps).sum()) / len(positive)


def bins_of(predicted: Floats, *, bins: int, strategy: str) -> Ints:
    """Return the number of each prediction's bin, from 0; raise ValueError as `expected_calibration_error` does."""
    check_count("bins", bins)
    if strategy not in _STRATEGIES:
        raise ValueError(unknown(f"Unknown strategy {strategy!r}.", strategy, _STRATEGIES))
    if not len(predicted):
        return np.empty(0, np.int64)
    inner = np.arange(1, int(bins))
    edges: Floats = inner / bins
    if strategy == "quantile":
        # In integers, ceil(b * N / bins) - 1: a rounded product would move an edge by a row.
        ranks = np.unique(-(-inner * len(predicted) // bins) - 1)
        edges = np.partition(predicted, ranks)[ranks] if ranks.size else predicted[:0]
    return np.searchsorted(edges, predicted, side="left")
