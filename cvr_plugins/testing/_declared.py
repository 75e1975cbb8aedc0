"""Checks of what a method says about itself: texts, options, heads, tasks, labels, phases."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

from cvr_plugins.assembly import HEAD_SUFFIX, options_of
from cvr_plugins.contracts import API_VERSION, Architecture, Labels, Objective, Phase
from cvr_plugins.metrics import TASKS
from cvr_plugins.plugins import registry
from cvr_plugins.testing._case import PARTS, Case, new_model, training_batch
from cvr_plugins.testing._check import Problem, check, one_line

NO_SUCH_OPTION = "no_such_option_of_any_method"


@check(
    "metadata",
    "the method says what it is, where it comes from, and has no default that nothing takes",
    cause="a field of Method left out, or an option renamed in the constructor but not in Method.defaults",
)
def metadata(case: Case) -> None:
    """Texts, the contracts' version, and the names in `defaults`."""
    method = case.method
    if not method.summary.strip() or "\n" in method.summary.strip():
        raise Problem(expected="a summary of one line, which lists of methods show", found=repr(method.summary))
    if not method.reference.strip():
        raise Problem(
            expected="a reference: authors, title, venue, year, URL (of something unpublished, who and when)",
            found=repr(method.reference),
        )
    if method.api > API_VERSION:
        raise Problem(expected=f"a version of the contracts up to {API_VERSION}", found=f"api={method.api}")
    parts: list[Callable[..., Any]] = [method.objective]
    parts += [entry.value for kind in PARTS for entry in registry().entries(kind)]
    taken = {name for part in parts for name in options_of(part)}
    for name in method.defaults:
        if name not in taken and not name.endswith(HEAD_SUFFIX):
            raise Problem(
                expected="each of Method.defaults to be an option of the objective or of a registered architecture, "
                "backbone or weighting",
                found=f"{name!r}, which none of them takes",
            )


@check(
    "construction",
    "the method is built from its defaults, with the heads that its objective declares",
    cause="an option without a default, an architecture, backbone or weighting that is not registered under that name, "
    "or an __init__ that does not call super().__init__()",
)
def construction(case: Case) -> None:
    """Build objective and architecture."""
    assembly = case.assembly()
    made = case.method.objective(**assembly.objective.options)
    if not isinstance(made, Objective):
        raise Problem(expected="Method.objective to make a cvr_plugins.Objective", found=f"a {type(made).__name__}")
    if "_parameters" not in vars(made):
        raise Problem(expected="the objective's __init__ to call super().__init__()", found="it does not")
    heads = made.heads
    if not isinstance(heads, tuple) or not heads or not all(isinstance(h, str) and h.isidentifier() for h in heads):
        raise Problem(expected="heads to be a tuple of names that are Python identifiers", found=repr(heads))
    if len(set(heads)) != len(heads):
        raise Problem(expected="heads that differ", found=repr(heads))
    model = new_model(assembly)
    logits = model.outputs(training_batch(0).x).logits
    if not isinstance(model.architecture, Architecture) or set(logits) != set(heads):
        raise Problem(expected=f"an Architecture with logits of {', '.join(heads)}", found=", ".join(logits))


@check(
    "options",
    "every option is keyword-only, documented and accepted at its default; an unknown one is refused",
    cause="an option before the `*` of the constructor, a **kwargs that swallows what it does not know, an option "
    "named like one of the backbone, or a docstring that was not kept up",
    requires=("construction",),
)
def options(case: Case) -> None:
    """Signature, docstring, explicit defaults, an unknown name."""
    objective = case.method.objective
    for name, parameter in inspect.signature(objective).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise Problem(
                expected="every parameter of the objective to stand behind a `*`, which makes it an option",
                found=f"{name!r} is positional, so that no configuration can set it",
            )
    assembly = case.assembly()
    parts = assembly.accepted
    if case.model().weighting is None:
        # A method's own weighting gives way, options and all, where its other options leave one loss alone.
        parts.pop("weighting", None)
    text = documentation(objective)
    for name in parts["objective"]:
        if not re.search(rf"\b{re.escape(name)}\b", text):
            raise Problem(
                expected="the objective's docstring, which `cvr-plugins show` prints, to explain every option",
                found=f"nothing about {name!r}",
            )
    for accepted in parts.values():
        for name, parameter in accepted.items():
            if parameter.default is inspect.Parameter.empty or name in case.options:
                continue
            try:
                new_model(case.assembly(**{name: parameter.default}))
            except (TypeError, ValueError) as error:
                raise Problem(
                    expected=f"{name}={parameter.default!r}, its default, to be accepted when it is given",
                    found=one_line(error),
                ) from error
    try:
        objective(**assembly.objective.options, **{NO_SUCH_OPTION: 1})
    except (TypeError, ValueError):
        return
    raise Problem(
        expected=f"the objective to refuse the option {NO_SUCH_OPTION!r}",
        found="it took it and said nothing, as it would a misspelt one",
    )


@check(
    "tasks",
    "each task is one that metrics know, or the objective's docstring explains it",
    cause="a task named otherwise than ctr, cvr, ctcvr and ctavr, so that no metric finds it",
    requires=("construction",),
)
def tasks(case: Case) -> None:
    """Names of tasks."""
    objective = case.model().objective
    named = objective.tasks
    if not isinstance(named, tuple) or len(set(named)) != len(named) or not all(isinstance(t, str) for t in named):
        raise Problem(expected="tasks to be a tuple of names that differ", found=repr(named))
    if not set(named) & set(TASKS):
        raise Problem(expected=f"at least one of the tasks {', '.join(TASKS)}", found=repr(named))
    for task in named:
        if task not in TASKS and not re.search(rf"\b{re.escape(task)}\b", documentation(type(objective))):
            raise Problem(
                expected=f"a task among {', '.join(TASKS)}, or what it is in the objective's docstring",
                found=repr(task),
            )


@check(
    "labels",
    "the loss is computed from the labels that `needs` names",
    cause='an objective that reads y.action and does not say needs = ("click", "conversion", "action")',
    requires=("construction", "terms"),
)
def labels(case: Case) -> None:
    """Names in `needs`, and a loss without the others."""
    model = case.model()
    known = [f.name for f in fields(Labels)]
    needs = model.objective.needs
    if not isinstance(needs, tuple) or not set(needs) <= set(known):
        raise Problem(expected=f"needs to be a tuple of labels among {', '.join(known)}", found=repr(needs))
    batch = training_batch(0)
    y = batch.y if "action" in needs else replace(batch.y, action=None)
    y = y if "propensity" in needs else replace(y, propensity=None)
    try:
        model.loss_terms(batch.x, y)
    except Exception as error:
        raise Problem(expected=f"a loss from the labels {', '.join(needs)} alone", found=one_line(error)) from error


@check(
    "phases",
    "phases and stops name loss terms and heads that there are, and every loss term is in some phase",
    cause="a loss term or head renamed in one place only, or one switched off by an option while phases still name it",
    requires=("terms",),
)
def phases(case: Case) -> None:
    """Names in `phases` and `stops`."""
    model = case.model()
    batch = training_batch(0)
    terms, heads = list(model.loss_terms(batch.x, batch.y)), model.objective.heads
    declared = tuple(model.objective.phases)
    if not declared or not all(isinstance(phase, Phase) for phase in declared):
        raise Problem(expected="phases to be a tuple of at least one Phase", found=repr(declared))
    names = [phase.name for phase in declared]
    if len(set(names)) != len(names):
        raise Problem(expected="phases of different names", found=repr(names))
    for phase in declared:
        _known(f"the terms of phase {phase.name!r}", phase.terms, "loss terms", terms)
        _known(f"the heads that phase {phase.name!r} trains", phase.trains, "heads", heads)
        if not model.parameters_for(phase):
            raise Problem(expected=f"phase {phase.name!r} to move something", found="no parameter belongs to it")
    for term in terms:
        if not any(phase.terms is None or term in phase.terms for phase in declared):
            raise Problem(expected="every loss term in some phase", found=f"{term!r} is in none of {names}")
    # A term of weight 0 may be absent, so that only those present can be held against `stops`.
    for term in terms:
        _known(f"the heads in stops[{term!r}]", model.objective.stops.get(term), "heads", heads)


def documentation(objective: Callable[..., Any]) -> str:
    """Return the docstring of an objective or of what makes it."""
    while isinstance(objective, functools.partial):
        objective = objective.func
    return inspect.getdoc(objective) or ""


def _known(what: str, names: object, kind: str, known: Iterable[str]) -> None:
    if names is None:
        return
    if not isinstance(names, tuple):
        raise Problem(expected=f"{what} to be a tuple of names", found=repr(names))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Problem(expected=f"{what} among the {kind} {', '.join(known)}", found=", ".join(map(repr, unknown)))
