"""Towers, SharedBottom, MMoE and PLE against NumPy, and the options of their networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cvr_plugins.architectures import DCNV2, MLP, PLE, DeepFM, MMoE, SharedBottom, Towers
from cvr_plugins.contracts import Backbone, Layout

HEADS = ("ctr", "cvr", "imputation")
LAYOUT = Layout((2, 2, 3), dense=1)
SMALL = partial(MLP, dims=(6, 5))
SHARING = [SharedBottom, MMoE, PLE]


@pytest.fixture
def numpy_gate(numpy_mlp):
    def gate(state, prefix, x):
        return softmax(
            numpy_mlp(state, f"{prefix}hidden.", x, batch_norm=False) @ state[f"{prefix}scores.weight"].T, axis=1
        )

    return gate


@pytest.fixture
def agrees(numpy_mlp):
    """Compare Outputs with what the towers make of head -> representation in NumPy."""

    def check(out, state, inputs, x):
        for head in HEADS:
            hidden = numpy_mlp(state, f"towers.mlps.{head}.", inputs[head])
            logit = hidden @ state[f"towers.logits.{head}.weight"][0] + state[f"towers.logits.{head}.bias"]
            np.testing.assert_allclose(out.hidden[head].detach().numpy(), hidden, rtol=1e-9)
            np.testing.assert_allclose(out.logits[head].detach().numpy(), logit, rtol=1e-9)
        assert out.embedding is x
        assert list(out.logits) == list(out.hidden) == list(HEADS)

    return check


TOWERS = [{"tower_dims": ()}, {"tower_dims": (4, 3)}]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_towers_match_numpy(batch_norm, randomise, numpy_mlp, batch):
    backbone = partial(SMALL, batch_norm=batch_norm)
    model = Towers(LAYOUT, HEADS, backbone=backbone, head_options={"cvr": {"dims": (3,)}})
    state, x = randomise(model), batch(7, LAYOUT.width)
    out = model(x)
    assert out.embedding is x
    for head, width in zip(HEADS, (5, 3, 5), strict=True):
        hidden = numpy_mlp(state, f"towers.{head}.", x.numpy(), batch_norm=batch_norm)
        logit = hidden @ state[f"logits.{head}.weight"][0] + state[f"logits.{head}.bias"]
        assert out.hidden[head].shape == (7, width)
        np.testing.assert_allclose(out.hidden[head].detach().numpy(), hidden, rtol=1e-9)
        np.testing.assert_allclose(out.logits[head].detach().numpy(), logit, rtol=1e-9)


@pytest.mark.parametrize("towers", TOWERS)
def test_shared_bottom_matches_numpy(towers, randomise, numpy_mlp, agrees, batch):
    model = SharedBottom(LAYOUT, HEADS, backbone=SMALL, **towers)
    state, x = randomise(model), batch(7, LAYOUT.width)
    bottom = numpy_mlp(state, "bottom.", x.numpy())
    agrees(model(x), state, dict.fromkeys(HEADS, bottom), x)


@pytest.mark.parametrize(("gate_dims", "towers"), [((), TOWERS[0]), ((4, 3), TOWERS[1])])
def test_mmoe_matches_numpy(towers, gate_dims, randomise, numpy_mlp, numpy_gate, agrees, batch):
    model = MMoE(LAYOUT, HEADS, backbone=SMALL, n_experts=3, gate_dims=gate_dims, **towers)
    state, x = randomise(model), batch(7, LAYOUT.width)
    mixtures = {}
    for head in HEADS:
        weights = numpy_gate(state, f"gates.{head}.", x.numpy())
        mixtures[head] = sum(weights[:, [i]] * numpy_mlp(state, f"experts.{i}.", x.numpy()) for i in range(3))
    agrees(model(x), state, mixtures, x)


@pytest.mark.parametrize(
    ("n_levels", "gate_dims", "towers"), [(1, (), TOWERS[0]), (2, (4,), TOWERS[1]), (3, (), TOWERS[1])]
)
def test_ple_matches_numpy(towers, n_levels, gate_dims, randomise, numpy_mlp, numpy_gate, agrees, batch):
    model = PLE(
        LAYOUT,
        HEADS,
        backbone=SMALL,
        n_shared_experts=2,
        n_specific_experts=3,
        n_levels=n_levels,
        gate_dims=gate_dims,
        **towers,
    )
    state, x = randomise(model), batch(7, LAYOUT.width)
    paths, shared_path = dict.fromkeys(HEADS, x.numpy()), x.numpy()
    for level in range(n_levels):
        at = f"levels.{level}."
        shared = [numpy_mlp(state, f"{at}shared.{i}.", shared_path) for i in range(2)]
        own = {h: [numpy_mlp(state, f"{at}specific.{h}.{i}.", paths[h]) for i in range(3)] for h in HEADS}
        gates = {h: numpy_gate(state, f"{at}gates.{h}.", paths[h]) for h in HEADS}
        if level < n_levels - 1:
            gate = numpy_gate(state, f"{at}shared_gate.", shared_path)
            every = [*own["ctr"], *own["cvr"], *own["imputation"], *shared]
            shared_path = sum(gate[:, [i]] * expert for i, expert in enumerate(every))
        paths = {h: sum(gates[h][:, [i]] * expert for i, expert in enumerate([*own[h], *shared])) for h in HEADS}
    assert not any(key.startswith(f"levels.{n_levels - 1}.shared_gate") for key in state)
    agrees(model(x), state, paths, x)


def test_ples_higher_experts_are_mlps_where_the_backbone_needs_fields(randomise, batch):
    model = PLE(Layout((2, 2, 2)), HEADS, backbone=partial(DeepFM, dims=(6, 5), activation="tanh"), n_levels=3)
    assert all(type(e) is DeepFM for e in model.levels[0].shared)
    for level in (1, 2):
        experts = [*model.levels[level].shared, *model.levels[level].specific["ctr"]]
        assert [type(e) for e in experts] == [MLP] * 8
        width = 7 if level == 1 else 5
        assert repr(experts[0]) == repr(MLP(Layout((width,)), dims=(6, 5), activation="tanh"))
    assert randomise(model)["levels.1.shared.0.layers.0.weight"].shape == (6, 7)
    assert all(torch.isfinite(z).all() for z in model(batch(4, 6)).logits.values())


def test_ples_higher_experts_are_the_backbone_where_it_needs_no_fields():
    model = PLE(LAYOUT, HEADS, backbone=partial(DCNV2, dims=(4,), structure="parallel"), n_levels=3)
    assert [type(e) for level in model.levels for e in level.shared] == [DCNV2] * 12
    assert [level.output_dim for level in model.levels] == [12, 16, 20]


@pytest.mark.parametrize("architecture", SHARING)
def test_tower_options_reach_the_towers_and_head_options_replace_them(architecture):
    model = architecture(
        LAYOUT,
        HEADS,
        backbone=SMALL,
        tower_dims=[7],
        tower_activation="tanh",
        tower_dropout=0.2,
        tower_batch_norm=False,
        head_options={"cvr": {"dims": [3, 2], "dropout": 0.5}},
    )
    on_shared = Layout((5,))
    common: dict[str, Any] = {"activation": "tanh", "batch_norm": False}
    assert repr(model.towers.mlps["ctr"]) == repr(MLP(on_shared, dims=[7], dropout=0.2, **common))
    assert repr(model.towers.mlps["cvr"]) == repr(MLP(on_shared, dims=[3, 2], dropout=0.5, **common))
    hidden = model(torch.zeros(4, LAYOUT.width)).hidden
    assert [hidden[head].shape[1] for head in HEADS] == [7, 2, 7]


def test_the_papers_numbers_are_the_defaults():
    mmoe, ple = (a(LAYOUT, ("ctr", "cvr"), backbone=SMALL) for a in (MMoE, PLE))
    assert len(mmoe.experts) == 8
    assert [len(ple.levels), len(ple.levels[0].shared), len(ple.levels[0].specific["cvr"])] == [1, 4, 4]
    assert len(DCNV2(LAYOUT).cross) == 1
    assert not DCNV2(LAYOUT).parallel


class NeedsTwoFields(Backbone):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        if len(layout.embedded) < 2:
            raise ValueError("NeedsTwoFields needs two fields.")
        self.output_dim = layout.width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        (MMoE, {"gate_dims": [0]}, r"gate_dims: dims must be .*; got \[0\]"),
        (
            PLE,
            {"n_levels": 2, "backbone": NeedsTwoFields},
            "above PLE's first level see a mixture of width 8, .* needs two fields. Set n_levels to 1",
        ),
        (
            PLE,
            {"n_levels": 2, "backbone": partial(DCNV2, dims=(3,), rank=6)},
            "above PLE's first level see a mixture of width 3, .* rank must not exceed",
        ),
        (SharedBottom, {"tower_dims": 40}, "Tower of head 'ctr': dims must be a list of positive integers"),
        (SharedBottom, {"head_options": {"cvr": {"dims": [-1]}}}, "Tower of head 'cvr': dims must be"),
        (SharedBottom, {"head_options": {"cvr": {"rank": 2}}}, "'cvr' has no option 'rank'; it takes dims, activation"),
        (SharedBottom, {"head_options": {"ctcvr": {}}}, r"unknown heads \['ctcvr'\]"),
    ],
)
def test_bad_input_is_refused_in_one_line(architecture, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        architecture(LAYOUT, HEADS, **{"backbone": SMALL, **options})
    assert "\n" not in str(caught.value)
