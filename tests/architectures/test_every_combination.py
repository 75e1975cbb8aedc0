"""What holds for every architecture on every backbone: a covering of their options and of the kinds of input."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import combinations, product

import pytest
import torch

from cvr_plugins.assembly import options_of
from cvr_plugins.contracts import Layout
from cvr_plugins.plugins import registry

HEADS = ("ctr", "cvr", "imputation")
# tanh has no dead units, so a gradient of exactly zero means that there is no path.
TOWER = {"tower_dims": (4,), "tower_activation": "tanh"}
# The architecture 'masked', of which a part belongs to two of three heads, has a file of its own.
ARCHITECTURES = {entry.key: entry.value for entry in registry().entries("architecture") if entry.key != "masked"}
BACKBONES = {entry.key: entry.value for entry in registry().entries("backbone")}
OPTIONS = {
    "shared_bottom": [TOWER, {"tower_dims": ()}],
    "mmoe": [{"n_experts": 2, "gate_dims": (6,), **TOWER}],
    "ple": [
        {"n_shared_experts": 2, "n_specific_experts": 1, **TOWER},
        {"n_shared_experts": 1, "n_specific_experts": 2, "n_levels": 2, **TOWER},
        {"n_shared_experts": 1, "n_specific_experts": 1, "n_levels": 3, "gate_dims": (6,), **TOWER},
    ],
    "dcn_v2": [{}, {"n_cross_layers": 2, "structure": "parallel", "rank": 2}],
}
LAYOUTS = {
    "two fields": Layout((3, 3)),
    "equal fields": Layout((3, 3, 3), dense=2),
    "mixed fields": Layout((4, 2, 3), dense=2),
    "dense values": Layout((), dense=3),
}
TAKES = {"deepfm": ("two fields", "equal fields"), "ncf": ("two fields",)}
"""Backbone -> the layouts that it takes, where it does not take all."""


def variants(names):
    return [(name, number) for name in names for number in range(len(OPTIONS.get(name, [{}])))]


def covering():
    """Architectures, backbones and layouts such that every pair that is possible occurs, chosen greedily."""
    factors = (variants(ARCHITECTURES), variants(BACKBONES), LAYOUTS)
    rows = [row for row in product(*factors) if row[2] in TAKES.get(row[1][0], LAYOUTS)]
    pairs = {row: set(combinations(enumerate(row), 2)) for row in rows}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        best = max(rows, key=lambda row: len(pairs[row] & missing))
        chosen.append(best)
        missing -= pairs[best]
    return chosen


def build(architecture, backbone, layout):
    torch.manual_seed(3)
    (name, number), (network, other) = architecture, backbone
    options = OPTIONS.get(network, [{}])[other]
    factory = partial(BACKBONES[network], dims=(6, 5), activation="tanh", **options)
    return ARCHITECTURES[name](LAYOUTS[layout], HEADS, backbone=factory, **OPTIONS.get(name, [{}])[number])


@pytest.mark.parametrize(
    ("architecture", "backbone", "layout"), covering(), ids=lambda part: part if isinstance(part, str) else part[0]
)
def test_parameters_are_divided_into_what_reaches_one_head_and_what_reaches_all(
    architecture, backbone, layout, randomise, batch
):
    model = build(architecture, backbone, layout)
    one = model(torch.randn(1, LAYOUTS[layout].width))
    assert all(z.shape == (1,) and z.isfinite() for z in one.logits.values()), "a batch of one row is trained on"
    assert all(h.shape[0] == 1 and h.dim() == 2 for h in one.hidden.values())
    randomise(model)
    parameters = dict(model.named_parameters())
    assert len({p.data_ptr() for p in parameters.values()}) == len(parameters), "every network is built anew"

    x = batch(8, LAYOUTS[layout].width)
    logits = model(x).logits
    reached: dict[str, set[str]] = {name: set() for name in parameters}
    for head in HEADS:
        grads = torch.autograd.grad(logits[head].sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, grad in zip(parameters, grads, strict=True):
            if grad is not None and grad.abs().max() > 0:
                reached[name].add(head)
    shared = model.parameters_for([], shared=True)
    own = {head: model.parameters_for([head], shared=False) for head in HEADS}
    owners = {id(p): {head} for head, owned in own.items() for p in owned}
    assert reached == {name: owners.get(id(p), set(HEADS)) for name, p in parameters.items()}

    count = Counter(id(p) for part in (shared, *own.values()) for p in part)
    assert count == Counter(id(p) for p in model.parameters()) == Counter(map(id, model.parameters_for(HEADS)))
    together = model.parameters_for(["cvr", "ctr"], shared=True)
    assert Counter(map(id, together)) == Counter(map(id, [*own["cvr"], *own["ctr"], *shared]))
    with pytest.raises(ValueError, match=r"Unknown head 'ctcvr'; the heads are \['ctr', 'cvr', 'imputation'\]"):
        model.parameters_for(["ctr", "ctcvr"])

    alone = model(x[4:5]).logits
    for head in HEADS:
        torch.testing.assert_close(logits[head][4:5], alone[head], rtol=1e-12, atol=1e-12)


def test_no_option_belongs_to_an_architecture_and_to_a_backbone():
    for architecture in registry().entries("architecture"):
        for backbone in BACKBONES.values():
            assert not options_of(architecture.value).keys() & options_of(backbone).keys()
