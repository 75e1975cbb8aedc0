"""All checks in their order, and how they are made of a method."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cvr_plugins.assembly import OptionError
from cvr_plugins.contracts import Method
from cvr_plugins.nearest import unknown
from cvr_plugins.plugins import RegistryError, registry
from cvr_plugins.testing import _acts, _combinations, _declared, _losses, _moves, _predictions, _state
from cvr_plugins.testing._case import Case
from cvr_plugins.testing._check import CheckFailure, CheckResult, Definition, generators_kept


class Check(Definition):
    """One check: call it with a method, and it raises CheckFailure or returns None.

    name; description: what holds if it passes; cause: what usually brings about a failure; requires: names of the
    checks it rests on, which are made first.
    """

    def __call__(self, method: Method | str, *, options: Mapping[str, Any] | None = None) -> None:
        """Make this check, and those it rests on, of `method` with `options`; raises CheckFailure."""
        __tracebackhide__ = True  # by pytest, which shows an author's frames alone
        check_method(method, checks=[self.name], options=options)

    @property
    def __name__(self) -> str:  # what pytest calls a test of it
        return self.name

    def __repr__(self) -> str:
        return f"<Check {self.name}>"


CHECKS: dict[str, Check] = {
    each.name: Check(**vars(each))
    for each in (
        _declared.metadata,
        _declared.construction,
        _declared.options,
        _declared.tasks,
        _losses.terms,
        _declared.labels,
        _declared.phases,
        _moves.training,
        _losses.edge_batches,
        _losses.purity,
        _losses.stops,
        _moves.heads_trained,
        _moves.moves,
        _acts.acts,
        _predictions.predictions,
        _predictions.row_independence,
        _state.sharing,
        _state.device,
        _state.seed,
        _state.state_dict,
        _state.pickled,
        _state.deepcopied,
        _combinations.architectures,
        _combinations.weightings,
        _predictions.learning,
    )
}
"""Every check by name, each after those it rests on."""


class UnknownCheck(ValueError):
    """No check has this name."""


def method_checks(names: Iterable[str] | None = None) -> list[Check]:
    """Return the checks of these names, None for all, to parametrise a test with.

        @pytest.mark.parametrize("check", method_checks())
        def test_my_method(check):
            check(MY_METHOD)

    Raises UnknownCheck for another name.
    """
    if names is None:
        return list(CHECKS.values())
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in CHECKS:
            raise UnknownCheck(unknown(f"Unknown check {name!r}.", name, CHECKS))
    return [CHECKS[name] for name in dict.fromkeys(wanted)]


def run_checks(
    method: Method | str, *, checks: Iterable[str] | None = None, options: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Make checks of a method and return what each said, in the order they rest on each other.

    method: a Method, registered or not, or a registered name; checks: names, None for all; options: that replace the
    method's defaults, among them `architecture`, `backbone` and `weighting`. A check that rests on one that failed is
    skipped; a failed one that was not asked for is returned too, since it is the reason. The caller's random generators
    are left as they were. Raises UnknownCheck (a ValueError), TypeError for what is no method, OptionError for options
    that the method does not take, and what the registry raises for an unknown name.
    """
    wanted = [each.name for each in method_checks(checks)]
    case = Case(_found(method), dict(options or {}))
    _require_options(case)
    results: dict[str, CheckResult] = {}
    for name in _with_required(wanted):
        each = CHECKS[name]
        unmet = next((other for other in each.requires if results[other].status != "passed"), None)
        if unmet is None:
            results[name] = each.result(case)
        else:
            results[name] = CheckResult(name, each.description, "skipped", found=f"since {unmet!r} did not pass")
    return [result for name, result in results.items() if name in wanted or result.status == "failed"]


def check_method(
    method: Method | str, *, checks: Iterable[str] | None = None, options: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Make checks of a method, as `run_checks` does, and raise CheckFailure, which lists the failed ones, if any is."""
    __tracebackhide__ = True  # by pytest
    results = run_checks(method, checks=checks, options=options)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise CheckFailure(_found(method).name, results) from failed[0].error
    return results


def _found(method: object) -> Method:
    if isinstance(method, str):
        return registry().method(method)
    if not isinstance(method, Method):
        hint = " Wrap the objective: Method(name=..., objective=...)." if inspect.isclass(method) else ""
        raise TypeError(f"Checks are of a cvr_plugins.Method or the name of a registered one; got {method!r}.{hint}")
    return method


def _require_options(case: Case) -> None:
    """Raise what is wrong with the options that the caller gave; whatever else is wrong is for the checks to tell."""
    if not case.options:
        return
    sound = False
    with generators_kept():
        try:
            Case(case.method, {}).model()
            sound = True
            case.model()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or (sound and isinstance(error, (OptionError, RegistryError))):
                raise


def _with_required(names: Sequence[str]) -> list[str]:
    needed = set(names)
    for name in reversed(CHECKS):
        if name in needed:
            needed.update(CHECKS[name].requires)
    return [name for name in CHECKS if name in needed]
