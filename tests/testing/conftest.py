"""Deliberately broken methods fail exactly the check that is about what is broken; a module lists them as FAULTS.

FAULTS: check -> rows (objective, beginning or part of what is expected, of what is found, fields of the method if any);
SOUND: rows (objective, checks that it passes).
"""

from __future__ import annotations

import pytest

from cvr_plugins import Method
from cvr_plugins.testing import check_method, method_checks, run_checks

CHECKS = {check.name: check for check in method_checks()}
LONG = {"architectures", "edge_batches", "device", "learning"}
"""Checks that take as long as all others; whether a fault fails them is seen where it is theirs."""


def _method(objective, **fields):
    named = {"summary": "Made for a test", "reference": "A test, 2026", **fields}
    return Method(named.pop("name", getattr(objective, "__name__", "Made")), objective, **named)


def _resting_on(name: str) -> set[str]:
    found: set[str] = {name}
    for check in CHECKS.values():
        if found & set(check.requires):
            found.add(check.name)
    return found - {name}


def _fails_exactly(method, name, expected, found):
    """Make the checks: one fails and says so, those that rest on it are skipped, all others pass."""
    made = [each for each in CHECKS if each == name or each not in LONG]
    results = {result.name: result for result in run_checks(method, checks=made)}
    assert list(results) == made
    failed = {each.name: str(each) for each in results.values() if each.status == "failed"}
    assert set(failed) == {name}, "\n".join(failed.values())
    skipped = {each.name for each in results.values() if each.status == "skipped"}
    assert skipped == _resting_on(name) & set(made)
    result = results[name]
    assert expected in result.expected
    assert found in result.found
    assert str(result) == (
        f"{name}: {CHECKS[name].description}\n  expected: {result.expected}\n  found: {result.found}\n"
        f"  usual cause: {CHECKS[name].cause}"
    )


def pytest_generate_tests(metafunc):
    if "fault" in metafunc.fixturenames:
        rows = [(check, *row) for check, rows in metafunc.module.FAULTS.items() for row in rows]
        metafunc.parametrize("fault", rows, indirect=True, ids=[f"{row[0]} {row[1].__name__}" for row in rows])
    if "sound" in metafunc.fixturenames:
        rows = metafunc.module.SOUND
        metafunc.parametrize("sound", rows, indirect=True, ids=[row[0].__name__ for row in rows])


@pytest.fixture(scope="session")
def method_of():
    """A Method of an objective, everything about it in order."""
    return _method


@pytest.fixture(scope="session")
def fails_exactly():
    """See that a method fails a check, and no other, with these words."""
    return _fails_exactly


@pytest.fixture
def fault(request):
    """One of the module's FAULTS, to be found."""
    check, objective, expected, found, *fields = request.param
    return lambda: _fails_exactly(_method(objective, **(fields[0] if fields else {})), check, expected, found)


@pytest.fixture
def sound(request):
    """One of the module's SOUND methods, to be passed."""
    objective, checks = request.param
    return lambda: check_method(_method(objective), checks=checks)
