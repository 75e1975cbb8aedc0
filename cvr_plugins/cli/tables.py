"""`cvr-plugins methods`, `show`, `keys`, `plugins`, `datasets`: what there is, as tables or JSON."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cvr_plugins.assembly import Assembly

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _list(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    from cvr_plugins.cli._output import echo_json, echo_table

    if as_json:
        echo_json(rows)
    else:
        echo_table(columns, [[row[column] for column in columns] for row in rows])


@click.command()
@_json
def methods(as_json: bool) -> None:
    """List the methods that -m takes."""
    from cvr_plugins.plugins import registry

    of_method = ("architecture", "backbone", "weighting", "summary", "reference")
    rows = [
        {"name": entry.key, "plugin": entry.plugin, **{name: getattr(entry.value, name) for name in of_method}}
        for entry in registry().entries("method")
    ]
    _list(rows, ["name", "plugin", "summary"], as_json)


@click.command(short_help="List the models that -m takes with --framework recbole.")
@_json
def models(as_json: bool) -> None:
    """List what -m takes in RecBole: the methods, our sequential models, those of plugins, and RecBole's own."""
    from cvr_plugins.recbole import names

    rows = [
        {"name": each.key, "plugin": each.owner, "kind": each.kind, "origin": each.origin}
        for each in sorted(names.available(), key=lambda each: each.owner == names.RECBOLE)
    ]
    _list(rows, ["name", "plugin", "kind", "origin"], as_json)


@click.command()
@_json
def datasets(as_json: bool) -> None:
    """List the data sets that -d takes by name."""
    from cvr_plugins.plugins import registry

    rows = [
        {"name": entry.key, "plugin": entry.plugin, "summary": (inspect.getdoc(entry.value) or "").split("\n\n")[0]}
        for entry in registry().entries("dataset")
    ]
    _list(rows, ["name", "plugin", "summary"], as_json)


@click.command(short_help="Show a method: formula, source, options.")
@click.argument("method")
@click.option("--architecture", help="Show the options on this architecture.")
@click.option("--backbone", help="Show the options on this backbone.")
@click.option("--weighting", help="Show the options with this weighting of the CTR and CVR losses.")
@_json
def show(method: str, architecture: str | None, backbone: str | None, weighting: str | None, as_json: bool) -> None:
    """Show METHOD: what it computes, where it comes from, and every option with its default."""
    from cvr_plugins.assembly import WEIGHTING_PARAMS, assemble
    from cvr_plugins.cli._frameworks import check_method
    from cvr_plugins.cli._output import echo_json, echo_table
    from cvr_plugins.plugins import UnknownName

    try:
        assembly = assemble(method, architecture=architecture, backbone=backbone, weighting=weighting)
    except UnknownName:
        check_method(method)
        raise
    found = assembly.method
    parts = assembly.accepted
    options = [
        {
            "option": name,
            "default": _plain(parameter.default),
            "required": parameter.default is parameter.empty,
            "of": part,
        }
        for part, accepted in parts.items()
        for name, parameter in accepted.items()
    ]
    objective = _described(assembly)
    formula = inspect.getdoc(objective) or ""
    described = {
        "name": found.name,
        "summary": found.summary,
        "reference": found.reference,
        "architecture": assembly.architecture.name,
        "backbone": assembly.backbone.name,
        "weighting": assembly.weighting and assembly.weighting.name,
        "heads": list(getattr(objective, "heads", ())),
        "tasks": list(getattr(objective, "tasks", ())),
        "needs": list(getattr(objective, "needs", ())),
        "description": formula,
        "options": options,
    }
    if as_json:
        echo_json(described)
        return
    click.echo(f"{found.name}: {found.summary}\n")
    click.echo(formula + "\n")
    if found.reference:
        click.echo(f"Reference: {found.reference}\n")
    for label in ("architecture", "backbone", "weighting", "heads", "tasks", "needs"):
        value = described[label]
        click.echo(f"{label}: {', '.join(map(str, value)) if isinstance(value, list) else value or 'none'}")
    click.echo("")
    rows = [[o["option"], "(required)" if o["required"] else _yaml(o["default"]), o["of"]] for o in options]
    echo_table(["option", "default", "of"], rows)
    twice = [
        n for n in parts.get("weighting", {}) if any(n in names for part, names in parts.items() if part != "weighting")
    ]
    if twice:
        click.echo(f"The weighting's {', '.join(twice)} must be given in {WEIGHTING_PARAMS}, with its other options.")
    click.echo("Other keys: 'cvr-plugins keys'.")


@click.command()
@_json
def keys(as_json: bool) -> None:
    """List the configuration keys that every method takes."""
    from cvr_plugins.cli._output import echo_json, echo_table
    from cvr_plugins.config import KEYS

    if as_json:
        echo_json({name: {"default": key.default, "help": key.help} for name, key in KEYS.items()})
    else:
        echo_table(["key", "default", "meaning"], [[n, _yaml(k.default), k.help] for n, k in KEYS.items()])


@click.command(short_help="List the plugins, and what failed.")
@_json
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List the plugins, what each brings, and what is wrong with those that failed; with --debug the tracebacks."""
    from cvr_plugins.cli._output import echo_json, echo_table
    from cvr_plugins.plugins import registry
    from cvr_plugins.recbole import names

    known, root = registry(), ctx.find_root()
    known.collect()
    # Which names are free in RecBole only its side can tell; it reports the clashes to the registry.
    names.available()
    # Typed in full, this is a command of the group that plugins add theirs to.
    if hasattr(root.command, "ask_plugins"):
        root.command.ask_plugins()
    if as_json:
        echo_json([asdict(info) for info in known.plugins])
        return
    rows = []
    for info in known.plugins:
        brings = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in info.contributed.items() if names)
        rows.append([info.name, f"{info.distribution or '?'} {info.version or ''}".strip(), info.status, brings])
    echo_table(["plugin", "distribution", "status", "brings"], rows)
    for failure in known.failures:
        click.echo(str(failure))
        if root.params.get("debug") and failure.traceback:
            click.echo(failure.traceback)
    if any(failure.traceback for failure in known.failures) and not root.params.get("debug"):
        click.echo("'cvr-plugins plugins --debug' shows the tracebacks.")


def _described(assembly: Assembly) -> Any:
    """Return what tells of a method's objective: an instance, or its class where an option is missing or wrong."""
    from cvr_plugins.assembly import OptionError

    try:
        return assembly.new_objective()
    except OptionError:
        made = assembly.method.objective
        while isinstance(made, functools.partial):
            made = made.func
        return made


def _plain(default: Any) -> Any:
    """Return a default as JSON can hold it, by its representation what it cannot; None for a required option."""
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, (tuple, list)):
        return [_plain(each) for each in default]
    if isinstance(default, Mapping):
        return {str(name): _plain(each) for name, each in default.items()}
    if isinstance(default, float) and not math.isfinite(default):
        return repr(default)
    return default if isinstance(default, (str, int, float, type(None))) else repr(default)


def _yaml(value: Any) -> str:
    """Return a value as one would write it behind `key=`."""
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("\n...\n").strip()
