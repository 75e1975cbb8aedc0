"""`cvr-plugins check`: the conformance suite of methods, as a table or JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from cvr_plugins.wording import one_line, sentence

if TYPE_CHECKING:
    from cvr_plugins.contracts import Method
    from cvr_plugins.plugins import Failure
    from cvr_plugins.testing import CheckResult


@dataclass(frozen=True)
class _Target:
    """Methods to check, each under the name to show, and what of their plugin could not even be loaded."""

    methods: Sequence[tuple[str, Method]]
    failures: Sequence[Failure] = ()


@click.command()
@click.argument("target")
@click.argument("pairs", nargs=-1, metavar="[key=value ...]")
@click.option("--only", "checks", multiple=True, metavar="CHECK", help="Make this check alone; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check(target: str, pairs: tuple[str, ...], checks: tuple[str, ...], as_json: bool) -> int:
    """Check that a method keeps to the contracts: the same for ours and for anyone's.

    TARGET: a method's name ('methods' lists them), plugin:Name, a plugin's name for all its methods, or
    package.module:ATTRIBUTE for a Method, or a list of them, that is not registered yet. Options of the method may
    follow; they replace its defaults. Exits with 0 if everything passed, with 1 if not.

    \b
    cvr-plugins check ESMM
    cvr-plugins check my_package.my_module:METHOD architecture=mmoe
    """
    from cvr_plugins.cli._output import echo_json
    from cvr_plugins.config import parse_pairs
    from cvr_plugins.testing import method_checks, run_checks

    options, names = parse_pairs(pairs), [each.name for each in method_checks(checks or None)]
    found = _resolve(target)
    reports = []
    for name, method in found.methods:
        results = run_checks(method, checks=names, options=options)
        reports.append((name, results))
        if not as_json:
            _echo(name, results)
    passed = not found.failures and all(_passed(results) for _, results in reports)
    if as_json:
        methods = [
            {"name": name, "passed": _passed(results), "checks": [_plain(result) for result in results]}
            for name, results in reports
        ]
        failures = [{"stage": f.stage, "message": f.message} for f in found.failures]
        echo_json({"target": target, "passed": passed, "methods": methods, "failures": failures})
    else:
        for failure in found.failures:
            click.echo(str(failure))
    return 0 if passed else 1


def _resolve(target: str) -> _Target:
    """Find out what TARGET means; raises RegistryError or click.BadParameter."""
    from cvr_plugins.plugins import UnknownName, registry

    known = registry()
    try:
        entry = known.find("method", target)
    except UnknownName as error:
        # Whoever checks a plugin wants to know of all that is wrong with it.
        known.collect()
        named = {info.name.casefold(): info for info in known.plugins}
        info = named.get(target.casefold())
        if info is not None:
            methods = [(each.key, each.value) for each in known.entries("method") if each.plugin == info.name]
            if not methods and not info.failures:
                why = "is left out by CVR_PLUGINS_LOAD" if info.status == "skipped" else "brings no method"
                raise _wrong(f"the plugin {info.name!r} {why}.") from error
            return _Target(methods, info.failures)
        module, colon, attribute = target.partition(":")
        if not colon or module.casefold() in named:
            raise
        return _Target(_imported(module, attribute))
    return _Target([(entry.key, entry.value)])


def _wrong(reason: str) -> click.BadParameter:
    return click.BadParameter(reason, param_hint="TARGET")


def _imported(module: str, attribute: str) -> list[tuple[str, Method]]:
    """Return the Method, or the methods, called `attribute` in a module found as Python started here finds it."""
    from cvr_plugins.contracts import Method

    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        value: Any = import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _wrong(
            f"{module!r} is no plugin ('cvr-plugins plugins' lists them), and cannot be imported as a module from "
            f"{here}: {sentence(one_line(error))}"
        ) from error
    finally:
        with suppress(ValueError):
            sys.path.remove(here)
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise _wrong(f"the module {module!r} has no {attribute!r}.")
        value = getattr(value, name)
    methods = list(value) if isinstance(value, (list, tuple)) else [value]
    if not methods or not all(isinstance(method, Method) for method in methods):
        raise _wrong(
            f"{attribute!r} of {module!r} must be a cvr_plugins.Method or a list of them; got a "
            f"{type(value).__name__}. Wrap an objective: Method(name=..., objective=...)."
        )
    return [(method.name, method) for method in methods]


def _passed(results: Sequence[CheckResult]) -> bool:
    return all(result.status in ("passed", "not asked") for result in results)


def _echo(name: str, results: Sequence[CheckResult]) -> None:
    from cvr_plugins.cli._output import echo_table

    asked = [result for result in results if result.status != "not asked"]
    count = sum(result.status == "passed" for result in asked)
    rows = [[result.name, result.status, result.description] for result in results]
    echo_table(["check", "result", "what passes"], rows, title=f"{name}: {count} of {len(asked)} checks passed")
    for result in results:
        if result.status == "failed":
            click.echo(f"\n{result}")
    click.echo("")


def _plain(result: CheckResult) -> dict[str, Any]:
    fields = ("name", "description", "status", "expected", "found", "cause")
    return {**{name: getattr(result, name) for name in fields}, "seconds": round(result.seconds, 4)}
