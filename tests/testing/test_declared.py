"""Methods that say something wrong about themselves."""

from __future__ import annotations

from torch import sigmoid

from cvr_plugins import Objective, Phase
from cvr_plugins.functional import bce
from cvr_plugins.objectives import ESMM, Naive
from cvr_plugins.testing import check_method


def test_defaults_of_another_architecture_backbone_or_weighting_are_in_order(method_of):
    defaults = {"n_experts": 4, "n_cross_layers": 2, "temperature": 3.0, "cvr_params": {"dims": [8]}}
    check_method(method_of(Naive, defaults=defaults), checks=["metadata", "construction", "options"])


class Demanding(Naive):
    """alpha: needed."""

    def __init__(self, *, alpha):
        super().__init__()


class Twice(Naive):
    heads = ("ctr", "cvr", "cvr")


class Dotted(Naive):
    heads = ("ctr", "cvr", "a.b")


class Listed(Naive):
    heads = ["ctr", "cvr"]


class Unborn(Naive):
    def __init__(self):
        self.alpha = 1


METADATA = [
    (Naive, "a summary of one line", "' '", {"summary": " "}),
    (Naive, "a summary of one line", r"'One line\nand another'", {"summary": "One line\nand another"}),
    (Naive, "a reference: authors, title, venue, year, URL", "''", {"reference": ""}),
    (Naive, "a version of the contracts up to 1", "api=99", {"api": 99}),
    (Naive, "Method.defaults to be an option", "'alfa', which none of them takes", {"defaults": {"alfa": 1}}),
]
CONSTRUCTION = [
    (Demanding, "no error", "missing 1 required keyword-only argument: 'alpha'"),
    (Twice, "heads that differ", "('ctr', 'cvr', 'cvr')"),
    (Dotted, "names that are Python identifiers", "('ctr', 'cvr', 'a.b')"),
    (Listed, "heads to be a tuple of names", "['ctr', 'cvr']"),
    (Unborn, "__init__ to call super().__init__()", "it does not"),
    (lambda: 3, "Method.objective to make a cvr_plugins.Objective", "a int", {"name": "Made"}),
    (Naive, "no error", "UnknownName: Unknown architecture 'tower'. Did you mean", {"architecture": "tower"}),
    (Naive, "no error", "UnknownName: Unknown backbone 'mpl'", {"backbone": "mpl"}),
    (Naive, "no error", "UnknownName: Unknown weighting 'fix'", {"weighting": "fix"}),
]


class Positional(Naive):
    """alpha: taken in any order."""

    def __init__(self, alpha=1.0, *, beta=1.0):
        """beta: too."""
        super().__init__()


class Swallowing(Naive):
    """alpha: documented."""

    def __init__(self, *, alpha=1.0, **rest):
        super().__init__()


class Namesake(Naive):
    """dropout: of the loss."""

    def __init__(self, *, dropout=0.0):
        super().__init__()


class Undocumented(Naive):
    """alphabet is another word."""

    def __init__(self, *, alpha=1.0):
        super().__init__()


OPTIONS = [
    (Positional, "to stand behind a `*`", "'alpha' is positional"),
    (Swallowing, "to refuse the option", "it took it and said nothing"),
    (Namesake, "dropout=0.0, its default, to be accepted", "taken by its objective and its backbone"),
    (Undocumented, "the objective's docstring", "nothing about 'alpha'"),
]


class Unclear(ESMM):
    tasks = ("cvr", "ctr", "revenue")

    def predict(self, out):
        return {**super().predict(out), "revenue": sigmoid(out.logits["cvr"])}


class Repeated(ESMM):
    tasks = ("cvr", "ctr", "cvr")


class Alien(ESMM):
    """Predicts the revenue alone."""

    tasks = ("revenue",)

    def predict(self, out):
        return {"revenue": sigmoid(out.logits["cvr"])}


TASKS = [
    (Unclear, "a task among ctr, cvr, ctcvr, ctavr, or what it is in the objective's docstring", "'revenue'"),
    (Repeated, "names that differ", "('cvr', 'ctr', 'cvr')"),
    (Alien, "at least one of the tasks ctr, cvr, ctcvr, ctavr", "('revenue',)"),
]


class Explained(Unclear):
    """The task `revenue` is what a click brings."""


class Curious(ESMM):
    def loss(self, out, y):
        return {**super().loss(out, y), "action": bce(out.logits["cvr"], y.action).mean()}


class Greedy(ESMM):
    needs = ("click", "conversion", "purchase")


LABELS = [
    (Curious, "a loss from the labels click, conversion alone", "test_declared.py:"),
    (Greedy, "needs to be a tuple of labels among click, conversion, action", "('click', 'conversion', 'purchase')"),
]


class Base(Naive):
    stops = {}


def with_phases(name, *phases, **attributes):
    return type(name, (Base,), {"phases": phases, "__module__": __name__, **attributes})


WrongTerm = with_phases("WrongTerm", Phase("a", terms=("ctr", "cvrr")), Phase("b", terms=("cvr",)))
WrongHead = with_phases("WrongHead", Phase("a", trains=("ctr", "cvrr")))
Forgotten = with_phases("Forgotten", Phase("a", terms=("ctr",)))
NoPhase = with_phases("NoPhase")
SameName = with_phases("SameName", Phase("a"), Phase("a"))
Idle = with_phases("Idle", Phase("a"), Phase("b", trains=(), shared=False))
Text = with_phases("Text", Phase("a", terms="ctr"), Phase("b"))
WrongStop = with_phases("WrongStop", Phase("a"), stops={"ctr": ("cvrr",)})
OneName = with_phases("OneName", Phase("a"), stops={"ctr": "cvr"})
PHASES = [
    (WrongTerm, "the terms of phase 'a' among the loss terms ctr, cvr", "'cvrr'"),
    (WrongHead, "the heads that phase 'a' trains among the heads ctr, cvr", "'cvrr'"),
    (Forgotten, "every loss term in some phase", "'cvr' is in none of ['a']"),
    (NoPhase, "phases to be a tuple of at least one Phase", "()"),
    (SameName, "phases of different names", "['a', 'a']"),
    (Idle, "phase 'b' to move something", "no parameter belongs to it"),
    (Text, "the terms of phase 'a' to be a tuple of names", "'ctr'"),
    (WrongStop, "the heads in stops['ctr'] among the heads ctr, cvr", "'cvrr'"),
    (OneName, "the heads in stops['ctr'] to be a tuple of names", "'cvr'"),
]


class AsTensor(Naive):
    def loss(self, out, y):
        return sum(super().loss(out, y).values())


class Unaveraged(Naive):
    def loss(self, out, y):
        return {"ctr": bce(out.logits["ctr"], y.click), "cvr": super().loss(out, y)["cvr"]}


class Infinite(Naive):
    def loss(self, out, y):
        return {name: term / 0 for name, term in super().loss(out, y).items()}


class Cut(Naive):
    def loss(self, out, y):
        return {name: term.detach() for name, term in super().loss(out, y).items()}


class Plain(Naive):
    def loss(self, out, y):
        return {name: term.item() for name, term in super().loss(out, y).items()}


class Empty(Objective):
    def loss(self, out, y):
        return {}


TERMS = [
    (AsTensor, "loss() to return a dictionary", "a tensor of shape []"),
    (Unaveraged, "the loss term 'ctr' to be a scalar tensor", "a tensor of shape [64]"),
    (Infinite, "the loss term 'ctr' to be finite", "inf"),
    (Cut, "at least one loss term with a gradient", "none has one"),
    (Plain, "the loss term 'ctr' to be a scalar tensor", "0."),
    (Empty, "loss() to return a dictionary", "{}"),
]


FAULTS = {
    "metadata": METADATA,
    "construction": CONSTRUCTION,
    "options": OPTIONS,
    "tasks": TASKS,
    "labels": LABELS,
    "phases": PHASES,
    "terms": TERMS,
}
SOUND = [(Explained, ["tasks"])]


def test_a_fault_fails_its_own_check(fault):
    fault()


def test_what_is_in_order_passes(sound):
    sound()
