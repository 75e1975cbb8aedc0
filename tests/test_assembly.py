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
from cvr_plugins.objectives import ESMM, Naive
from cvr_plugins.plugins import UnknownName

LAYOUT = Layout((4, 4), dense=1)


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


BUILT = [
    (
        {"alfa": 1},
        r"Unknown option 'alfa' for Weighted on towers/mlp. Did you mean alpha\? It takes: activation, alpha,",
    ),
    ({"zzz": 1}, "Unknown option 'zzz' for Weighted on towers/mlp. It takes: activation"),
    ({"cvr_params": 3}, r"cvr_params must be a mapping such as \{'dims': \[64, 32\]\}; got 3"),
    ({"cvt_params": {}}, "Weighted has no head 'cvt', so it takes no 'cvt_params'; it takes ctr_params, cvr_params"),
    (
        {"cvr_params": {"dimz": [3]}},
        r"architecture 'towers' on backbone 'mlp': Unknown option 'dimz' for backbone 'mlp'. Did you mean dims\?",
    ),
    ({"alpha": -1}, "Weighted, objective: alpha must be at least 0; got -1"),
    ({"alpha": "much"}, "Weighted, objective: '<' not supported"),
    ({"dims": [0]}, "Weighted, architecture 'towers' on backbone 'mlp': dims must be a list of positive integers"),
    ({"cvr_params": {"dropout": 2}}, "dropout must be a number in .0, 1.; got 2"),
]


@pytest.mark.parametrize(("options", "message"), BUILT)
def test_options_that_no_part_takes_or_that_one_refuses(options, message):
    with pytest.raises(OptionError, match=message):
        assemble(WEIGHTED, options=options).build(LAYOUT)


def test_an_option_of_two_parts_is_refused():
    with pytest.raises(OptionError, match="'dropout' of Clashing is taken by its objective and its backbone; one must"):
        assemble(Method("Clashing", Clashing), options={"dropout": 0.1})


def test_parts_are_looked_up_by_name():
    assert assemble("esmm").method.objective is ESMM
    with pytest.raises(UnknownName, match="Unknown method 'ESM'"):
        assemble("ESM")
    with pytest.raises(UnknownName, match="Unknown architecture 'tower'"):
        assemble("ESMM", architecture="tower")
    with pytest.raises(UnknownName, match="Unknown backbone 'mpl'"):
        assemble("ESMM", backbone="mpl")
