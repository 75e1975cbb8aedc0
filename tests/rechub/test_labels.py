"""Which column of `ys` is which label, and what is said when they do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvr_plugins.rechub.labels import LabelColumns

CLICK_FIRST = ("click", "conversion")


def columns(names, needs=()):
    return LabelColumns(names, needs=needs, method="ESM2")


def test_named_columns_are_read_in_any_order():
    ys = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 1]])
    labels = columns(("action", "click", "conversion"), ["action"]).labels(ys, torch.float64)
    assert labels.click.tolist() == [1.0, 0.0, 1.0]
    assert labels.conversion.tolist() == [1.0, 0.0, 1.0]
    assert labels.action.tolist() == [0.0, 0.0, 1.0]
    assert labels.click.dtype == labels.conversion.dtype == labels.action.dtype == torch.float64


def test_without_names_the_columns_are_torch_rechubs():
    labels = columns(None).labels(torch.tensor([[1, 1, 1], [0, 1, 0], [1, 0, 0]]), torch.float32)
    assert labels.click.tolist() == [1.0, 1.0, 0.0]
    assert labels.conversion.tolist() == [1.0, 0.0, 0.0]
    assert labels.action is None


def test_what_follows_a_click_counts_only_with_one():
    names = ("click", "conversion", "action", "counterfactual")
    labels = columns(names).labels(torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]]), torch.float32)
    assert labels.conversion.tolist() == labels.action.tolist() == [0.0, 1.0]


def test_arrays_hold_what_is_evaluated_against():
    names = ("click", "ctcvr", "conversion", "counterfactual")
    found = columns(names).arrays(np.array([[1.0, 1, 1, 1], [0, 0, 1, 1]]))
    assert {name: column.tolist() for name, column in found.items()} == {
        "click": [1.0, 0.0],
        "conversion": [1.0, 1.0],
        "counterfactual": [1.0, 1.0],
    }


REFUSED = [
    (("click", "convertion"), (), "Unknown label column 'convertion'. Did you mean conversion"),
    (("click", "y2"), (), "Unknown label column 'y2'. Known: click, conversion, action"),
    (("click", "click", "conversion"), (), r"Label columns must differ; got \['click', 'click', 'conversion'\]"),
    (("click",), (), "ESM2 needs the label column 'conversion'; got 'click'. Add it to label_columns"),
    ((), (), "ESM2 needs the label column 'click'; got none"),
    (CLICK_FIRST, ("action",), "'action'; got 'click', 'conversion'. Add it to label_columns .*or set ACTION_FIELD"),
    (None, ("action",), "ESM2 needs the label column 'action'; got 'conversion', 'click', 'ctcvr'"),
]


@pytest.mark.parametrize(("names", "needs", "message"), REFUSED)
def test_names_that_do_not_do_are_refused(names, needs, message):
    with pytest.raises(ValueError, match=message):
        columns(names, needs)


BAD = [
    (CLICK_FIRST, [[1, 0, 1]], r"one column for each of click, conversion; got shape \(1, 3\)"),
    (CLICK_FIRST, [1, 0], r"one column for each of click, conversion; got shape \(2,\)"),
    (None, [[1, 0], [0, 1]], r"one column for each of conversion, click, ctcvr; got shape \(2, 2\)"),
    (None, [[1, 1, 0], [0, 0, 0]], "'ctcvr' is not click .* in 1 of 2 rows. Without label_columns"),
    (None, [[1, 0, 0], [1, 1, 1], [0, 0, 0]], "another order than conversion, click, ctcvr, .*: 1 rows convert"),
    ((*CLICK_FIRST, "ctcvr"), [[1, 1, 0], [0, 0, 1]], "in 2 of 2 rows. Check the order of label_columns"),
]


@pytest.mark.parametrize(("names", "rows", "message"), BAD)
def test_rows_that_do_not_fit_are_refused(names, rows, message):
    with pytest.raises(ValueError, match=message):
        columns(names).labels(torch.tensor(rows), torch.float32)
    with pytest.raises(ValueError, match=message):
        columns(names).arrays(np.array(rows))


@pytest.mark.parametrize(("wrong", "shown"), [(2.0, "2"), (float("nan"), "nan")])
def test_labels_of_training_must_be_binary(wrong, shown):
    ys = torch.tensor([[1.0, 0.0], [1.0, wrong]])
    message = rf"'conversion' must hold 0 and 1; 1 of 2 rows of the first batch do not \(the first holds {shown}\)"
    with pytest.raises(ValueError, match=message):
        columns(CLICK_FIRST).labels(ys, torch.float32)
