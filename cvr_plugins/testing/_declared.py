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
from cvr_plugins.testing._check import Problem, check, expecting, require

NO_SUCH_OPTION = "no_such_option_of_any_method"


@check(
    "metadata",
    "the method says what it is, where it comes from, and has no default that nothing takes",
    cause="a field of Method left out, or an option renamed in the constructor but not in Method.defaults",
)
def metadata(case: Case) -> None:
    """Texts, the contracts' version, and the names in `defaults`."""
    method = case.method
    one_line = method.summary.strip() and "\n" not in method.summary.strip()
    require(one_line, "a summary of one line, which lists of methods show", repr(method.summary))
    reference = "a reference: authors, title, venue, year, URL (of something unpublished, who and when)"
    require(method.reference.strip(), reference, repr(method.reference))
    require(method.api <= API_VERSION, f"a version of the contracts up to {API_VERSION}", f"api={method.api}")
    parts: list[Callable[..., Any]] = [method.objective]
    parts += [entry.value for kind in PARTS for entry in registry().entries(kind)]
    taken = {name for part in parts for name in options_of(part)}
    for name in method.defaults:
        require(
            name in taken or name.endswith(HEAD_SUFFIX),
            "each of Method.defaults to be an option of the objective or of a registered architecture, backbone or "
            "weighting",
            f"{name!r}, which none of them takes",
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
    is_objective = isinstance(made, Objective)
    require(is_objective, "Method.objective to make a cvr_plugins.Objective", f"a {type(made).__name__}")
    require("_parameters" in vars(made), "the objective's __init__ to call super().__init__()", "it does not")
    heads = made.heads
    named = isinstance(heads, tuple) and heads and all(isinstance(h, str) and h.isidentifier() for h in heads)
    require(named, "heads to be a tuple of names that are Python identifiers", repr(heads))
    require(len(set(heads)) == len(heads), "heads that differ", repr(heads))
    model = new_model(assembly)
    logits = model.outputs(training_batch(0).x).logits
    complete = isinstance(model.architecture, Architecture) and set(logits) == set(heads)
    require(complete, f"an Architecture with logits of {', '.join(heads)}", ", ".join(logits))


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
        require(
            parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD),
            "every parameter of the objective to stand behind a `*`, which makes it an option",
            f"{name!r} is positional, so that no configuration can set it",
        )
    assembly = case.assembly()
    parts = assembly.accepted
    if case.model().weighting is None:
        # A method's own weighting gives way, options and all, where its other options leave one loss alone.
        parts.pop("weighting", None)
    for name in parts["objective"]:
        explained = "the objective's docstring, which `cvr-plugins show` prints, to explain every option"
        require(_explains(objective, name), explained, f"nothing about {name!r}")
    for accepted in parts.values():
        for name, parameter in accepted.items():
            if parameter.default is inspect.Parameter.empty or name in case.options:
                continue
            accepted_when_given = f"{name}={parameter.default!r}, its default, to be accepted when it is given"
            with expecting(accepted_when_given, (TypeError, ValueError)):
                new_model(case.assembly(**{name: parameter.default}))
    try:
        objective(**assembly.objective.options, **{NO_SUCH_OPTION: 1})
    except (TypeError, ValueError):
        return
    took = "it took it and said nothing, as it would a misspelt one"
    raise Problem(f"the objective to refuse the option {NO_SUCH_OPTION!r}", took)


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
    differ = isinstance(named, tuple) and len(set(named)) == len(named) and all(isinstance(t, str) for t in named)
    require(differ, "tasks to be a tuple of names that differ", repr(named))
    require(set(named) & set(TASKS), f"at least one of the tasks {', '.join(TASKS)}", repr(named))
    for task in named:
        known = f"a task among {', '.join(TASKS)}, or what it is in the objective's docstring"
        require(task in TASKS or _explains(type(objective), task), known, repr(task))


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
    are_labels = isinstance(needs, tuple) and set(needs) <= set(known)
    require(are_labels, f"needs to be a tuple of labels among {', '.join(known)}", repr(needs))
    batch = training_batch(0)
    y = batch.y if "action" in needs else replace(batch.y, action=None)
    y = y if "propensity" in needs else replace(y, propensity=None)
    with expecting(f"a loss from the labels {', '.join(needs)} alone"):
        model.loss_terms(batch.x, y)


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
    are_phases = declared and all(isinstance(phase, Phase) for phase in declared)
    require(are_phases, "phases to be a tuple of at least one Phase", repr(declared))
    names = [phase.name for phase in declared]
    require(len(set(names)) == len(names), "phases of different names", repr(names))
    for phase in declared:
        _known(f"the terms of phase {phase.name!r}", phase.terms, "loss terms", terms)
        _known(f"the heads that phase {phase.name!r} trains", phase.trains, "heads", heads)
        moved = model.parameters_for(phase)
        require(moved, f"phase {phase.name!r} to move something", "no parameter belongs to it")
    for term in terms:
        summed = any(phase.terms is None or term in phase.terms for phase in declared)
        require(summed, "every loss term in some phase", f"{term!r} is in none of {names}")
    # A term of weight 0 may be absent, so that only those present can be held against `stops`.
    for term in terms:
        _known(f"the heads in stops[{term!r}]", model.objective.stops.get(term), "heads", heads)


def _explains(objective: Callable[..., Any], name: str) -> bool:
    """Whether the docstring of an objective, or of what makes it, has a word on `name`."""
    while isinstance(objective, functools.partial):
        objective = objective.func
    return re.search(rf"\b{re.escape(name)}\b", inspect.getdoc(objective) or "") is not None


def _known(what: str, names: object, kind: str, known: Iterable[str]) -> None:
    if names is None:
        return
    if not isinstance(names, tuple):
        raise Problem(f"{what} to be a tuple of names", repr(names))
    unknown = [name for name in names if name not in known]
    require(not unknown, f"{what} among the {kind} {', '.join(known)}", ", ".join(map(repr, unknown)))
