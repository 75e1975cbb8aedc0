"""Options sorted to the parts that take them, and refused where none does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from cvr_plugins.architectures import MLP, MMoE, Towers
from cvr_plugins.assembly import OptionError, assemble, options_of
from cvr_plugins.contracts import Layout, Method, Objective
from cvr_plugins.objectives import ESMM, NISE, Naive
from cvr_plugins.plugins import UnknownName, registry
from cvr_plugins.weightings import Dynamic

LAYOUT = Layout((4, 4), dense=1)
BUILT_IN = {entry.key: entry.value for entry in registry().entries("weighting")}
METHODS = [entry.value for entry in registry().entries("method")]


class Weighted(Objective):
    """An objective with options, one of which looks like a head's."""

    def __init__(self, *, alpha: float = 1.0, solver_params: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0; got {alpha!r}.")
        self.alpha, self.solver_params = alpha, solver_params

    def loss(self, out, y):
        return {"ctr": self.alpha * out.logits["ctr"].mean()}


class Clashing(Weighted):
    """Takes an option that the backbone takes, too."""

    def __init__(self, *, dropout: float = 0.0, **options: Any) -> None:
        super().__init__(**options)


WEIGHTED = Method("Weighted", Weighted, defaults={"alpha": 2.0, "n_experts": 5, "dims": [6]})


def test_options_reach_their_parts():
    assembly = assemble(
        WEIGHTED, architecture="mmoe", options={"alpha": 0.5, "dropout": 0.1, "n_experts": 3, "tower_dims": [4]}
    )
    assert assembly.objective.options == {"alpha": 0.5}
    assert assembly.architecture.options == {"n_experts": 3, "tower_dims": [4]}
    assert assembly.backbone.options == {"dims": [6], "dropout": 0.1}
    assert (assembly.architecture.name, assembly.backbone.name) == ("mmoe", "mlp")
    architecture, objective, weighting = assembly.build(LAYOUT)
    assert weighting is None
    assert isinstance(architecture, MMoE)
    assert len(architecture.experts) == 3
    assert objective.alpha == 0.5
    assert {m.p for m in architecture.modules() if isinstance(m, torch.nn.Dropout)} >= {0.1}


def test_a_methods_default_for_another_architecture_is_left_out():
    assembly = assemble(WEIGHTED)
    assert isinstance(assembly.build(LAYOUT)[0], Towers)
    assert assembly.architecture.options == {}
    assert assembly.objective.options == {"alpha": 2.0}


def test_head_options_replace_the_backbones_for_that_head():
    assembly = assemble(WEIGHTED, options={"dims": [8, 4], "cvr_params": {"dims": [3], "dropout": 0.4}})
    architecture, *_ = assembly.build(LAYOUT)
    assert {head: tower.output_dim for head, tower in architecture.towers.items()} == {"ctr": 4, "cvr": 3}
    for head, expected in {"ctr": [0.0, 0.0], "cvr": [0.4]}.items():
        assert [m.p for m in architecture.towers[head].modules() if isinstance(m, torch.nn.Dropout)] == expected


def test_an_option_that_a_part_takes_is_not_a_heads():
    assembly = assemble(WEIGHTED, options={"solver_params": {"steps": 3}})
    assert assembly.head_options == {}
    assert assembly.build(LAYOUT)[1].solver_params == {"steps": 3}


def test_the_options_that_parts_accept_show_the_methods_defaults():
    parts = assemble(WEIGHTED).accepted
    assert {name: p.default for name, p in parts["objective"].items()} == {"alpha": 2.0, "solver_params": None}
    assert parts["architecture"] == {}
    assert parts["backbone"]["dims"].default == [6]
    assert parts["backbone"]["activation"].default == "relu"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Naive, set()),
        (Weighted, {"alpha", "solver_params"}),
        (Clashing, {"alpha", "solver_params", "dropout"}),
        (Towers, set()),
        (MLP, {"dims", "activation", "dropout", "batch_norm"}),
        (functools.partial(MLP, dims=(3,)), {"dims", "activation", "dropout", "batch_norm"}),
    ],
)
def test_options_of_classes_and_factories(part, expected):
    assert set(options_of(part)) == expected


def weighting_of(method, weighting=None, **options):
    return assemble(method, weighting=weighting, options=options).build(LAYOUT)[2]


REFUSED = [
    (
        WEIGHTED,
        None,
        {"alfa": 1},
        r"'alfa' for Weighted on towers/mlp. Did you mean alpha\? It takes: activation, alpha,",
    ),
    (WEIGHTED, None, {"zzz": 1}, "Unknown option 'zzz' for Weighted on towers/mlp. It takes: activation"),
    (WEIGHTED, None, {"cvr_params": 3}, r"cvr_params must be a mapping such as \{'dims': \[64, 32\]\}; got 3"),
    (WEIGHTED, None, {"cvt_params": {}}, "no head 'cvt', so it takes no 'cvt_params'; it takes ctr_params, cvr_params"),
    (WEIGHTED, None, {"cvr_params": {"dimz": [3]}}, r"Unknown option 'dimz' for backbone 'mlp'. Did you mean dims\?"),
    (WEIGHTED, None, {"alpha": -1}, "Weighted, objective: alpha must be at least 0; got -1"),
    (WEIGHTED, None, {"alpha": "much"}, "Weighted, objective: '<' not supported"),
    (
        WEIGHTED,
        None,
        {"dims": [0]},
        "architecture 'towers' on backbone 'mlp': dims must be a list of positive integers",
    ),
    (WEIGHTED, None, {"cvr_params": {"dropout": 2}}, "dropout must be a number in .0, 1.; got 2"),
    (Method("Clashing", Clashing), None, {"dropout": 0.1}, "'dropout' of Clashing is taken by .* backbone; one must"),
    ("NISE", "dwa", {"alpha": 2}, r"^Unknown option 'alpha' for NISE on towers/mlp with weighting dwa\."),
    ("ESMM", None, {"temperature": 2}, "^Unknown option 'temperature' for ESMM on towers/mlp. It takes"),
    ("ESMM", "fixed", {"cvr_wieght": 2}, r"Did you mean cvr_weight\?"),
    ("ESMM", "dynamic", {"alpha": -1}, r"^ESMM, weighting 'dynamic': alpha must be a finite number above 0; got -1"),
    ("IdeFN", "dynamic", {"alpha": 0.5}, "^Option 'alpha' of IdeFN is taken by its objective and its weighting; give"),
    ("IdeFN", "fixed", {"train_ctr": False}, "IdeFN has no CTR loss with these options. Leave out weighting.$"),
    ("ESM2", "dtp", {"weight_ctr": 0, "update_every": 3}, "no CTR loss .* Leave out weighting, update_every.$"),
    ("ESMM", "fixed", {"weighting_params": 3}, r"^weighting_params must be a mapping such as \{'alpha': 0.5\}; got 3"),
    ("ESMM", "fixed", {"weighting_params": {"alfa": 3}}, "^Unknown option 'alfa' for weighting 'fixed'.* cvr_weight"),
    ("ESMM", None, {"weighting_params": {}}, "^ESMM has no weighting that weighting_params could be for; choose"),
    ("NISE", None, {"weighting_params": {}, "train_ctr": False}, "NISE has no CTR loss with these options"),
]


@pytest.mark.parametrize(("method", "weighting", "options", "message"), REFUSED)
def test_options_that_no_part_takes_or_that_one_refuses(method, weighting, options, message):
    with pytest.raises(OptionError, match=message):
        weighting_of(method, weighting, **options)


def test_parts_are_looked_up_by_name():
    assert assemble("esmm").method.objective is ESMM
    with pytest.raises(UnknownName, match="Unknown method 'ESM'"):
        assemble("ESM")
    with pytest.raises(UnknownName, match="Unknown architecture 'tower'"):
        assemble("ESMM", architecture="tower")
    with pytest.raises(UnknownName, match="Unknown backbone 'mpl'"):
        assemble("ESMM", backbone="mpl")


def test_without_being_asked_for_a_method_has_the_weighting_that_it_names():
    found = {method.name: type(weighting_of(method)) for method in METHODS}
    assert found == {m.name: BUILT_IN[m.weighting] if m.weighting else type(None) for m in METHODS}
    assert found["NISE"] is Dynamic


def test_options_reach_the_weighting():
    assert weighting_of("ESMM", "fixed", cvr_weight=3).cvr_weight == 3
    assert weighting_of("NISE", alpha=0.5, beta=5).beta == 5
    assert weighting_of("IdeFN", "dwa", temperature=1.5, gamma=3.0, alpha=0.9).temperature == 1.5
    found = weighting_of("ESCM2_DR", "dtp", focal_gamma=2, running_average=0.1, update_every=7, lambda_cvr=0.3)
    assert (found.focal_gamma, found.running_average, found.update_every) == (2, 0.1, 7)


def test_weighting_params_part_options_of_one_name():
    assembly = assemble(
        "IdeFN", weighting="dynamic", options={"alpha": 0.9, "gamma": 3, "weighting_params": {"alpha": 0.5, "beta": 9}}
    )
    _, objective, weighting = assembly.build(LAYOUT)
    assert (objective.alpha, objective.gamma) == (0.9, 3)
    assert (weighting.alpha, weighting.beta) == (0.5, 9)
    _, objective, weighting = assemble("IdeFN", weighting="dynamic", options={"beta": 9}).build(LAYOUT)
    assert (objective.alpha, weighting.alpha, weighting.beta) == (0.8, 1.0, 9)


def test_a_methods_defaults_reach_its_own_weighting_and_stay_behind_with_another():
    method = Method("Mine", ESMM, weighting="dynamic", defaults={"alpha": 3.0, "dims": [4]})
    assert weighting_of(method).alpha == 3
    assert weighting_of(method, alpha=4).alpha == 4
    assert weighting_of(method, weighting_params={"beta": 2}).alpha == 3
    assert weighting_of(method, "fixed").cvr_weight == 1
    # It is the method's own and gives way where there is one loss; no option of it was given.
    assert weighting_of(Method("Mine", NISE, weighting="dynamic", defaults={"alpha": 3.0}), train_ctr=False) is None
