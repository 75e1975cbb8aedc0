"""The checks of options: what passes and as what, what is refused and in which words."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from cvr_plugins.options import check_choice, check_count, check_flag, check_number


class Mine(ValueError):
    pass


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(1)])
def test_a_number_of_any_library_becomes_a_float(value):
    number = check_number("x", value, low=0, high=1)
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize(
    ("limits", "value", "wanted"),
    [
        ({"low": 0, "high": 1, "open_low": True}, 0, "a number in (0, 1]; got 0."),
        ({"low": 0, "high": 1, "open_high": True}, 1, "a number in [0, 1); got 1."),
        ({"low": 0}, -0.5, "a finite number of at least 0; got -0.5."),
        ({"low": 0, "open_low": True}, 0.0, "a finite number above 0; got 0.0."),
        ({"low": 0}, math.inf, "a finite number of at least 0; got inf."),
        ({"low": 0}, math.nan, "a finite number of at least 0; got nan."),
        ({"low": 0}, True, "a finite number of at least 0; got True."),
        ({"low": 0}, None, "a finite number of at least 0; got None."),
        ({"low": 0}, "many", "a finite number of at least 0; got 'many'."),
        ({"low": 0}, "1e-3", "got '1e-3'. Write a number without quotes."),
    ],
)
def test_a_number_out_of_its_range_is_refused(limits, value, wanted):
    with pytest.raises(ValueError, match=f"^x must be .*{re.escape(wanted)}"):
        check_number("x", value, **limits)


def test_an_integer_of_any_library_becomes_a_count():
    count = check_count("x", np.int64(3))
    assert (type(count), count) == (int, 3)
    assert check_count("x", 0, least=0) == 0


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match=f"^x must be a whole number of at least 1; got {re.escape(repr(value))}"):
        check_count("x", value)


@pytest.mark.parametrize("value", ["no", 0, None])
def test_what_is_neither_true_nor_false_is_refused(value):
    assert check_flag("x", True) is True
    with pytest.raises(ValueError, match=f"^x must be true or false; got {re.escape(repr(value))}"):
        check_flag("x", value)


@pytest.mark.parametrize("value", ["c", "A", ["a"], None])
def test_what_is_no_choice_is_refused(value):
    assert check_choice("x", "b", ("a", "b")) == "b"
    with pytest.raises(ValueError, match=re.escape(f"x must be one of 'a', 'b'; got {value!r}.")):
        check_choice("x", value, ("a", "b"))


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_number("x", -1, low=0, error=Mine),
        lambda: check_count("x", 0, error=Mine),
        lambda: check_flag("x", 0, error=Mine),
        lambda: check_choice("x", 0, (), error=Mine),
    ],
)
def test_the_kind_of_error_is_the_callers(check):
    with pytest.raises(Mine):
        check()
