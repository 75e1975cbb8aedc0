"""Masked sub-networks: a NumPy twin, what is one tensor, and that a dropped coordinate stays out of every step."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from cvr_plugins.architectures import DCNV2, MLP, DeepFM, Masked
from cvr_plugins.architectures.partly_shared import Coordinates, PartlyShared, prune
from cvr_plugins.contracts import Labels, Layout
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import AdapSL
from cvr_plugins.testing._log import Batch
from cvr_plugins.testing._training import Trainer

HEADS = ("ctr", "cvr", "imputation")
LAYOUT = Layout((4, 3), dense=1, names=("user", "tags"))
MODELS = ("prediction", "imputation")


class Encoder(nn.Module):
    """A token, the mean over a padded sequence of tokens of another width, and a dense value."""

    def __init__(self):
        super().__init__()
        self.user, self.tags = nn.Embedding(6, 4), nn.Embedding(5, 3, padding_idx=0)

    def forward(self, x):
        real = (x["tags"] > 0).sum(dim=1, keepdim=True).clamp(min=1)
        pooled = (self.tags(x["tags"]) * (x["tags"] > 0).unsqueeze(2)).sum(dim=1) / real
        return torch.cat([self.user(x["user"]), pooled, x["price"].unsqueeze(1)], dim=1)


def inputs(rows=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    tags = torch.randint(1, 5, (rows, 3), generator=draw)
    tags[:, 2] = 0
    return {
        "user": torch.randint(0, 6, (rows,), generator=draw),
        "tags": tags,
        "price": torch.randn(rows, generator=draw),
    }


def labels(rows=8, seed=0):
    draw = torch.Generator().manual_seed(seed + 50)
    click = (torch.rand(rows, generator=draw) < 0.6).float()
    return Labels(click, click * (torch.rand(rows, generator=draw) < 0.5).float())


def build(backbone=MLP, dims=(6, 5), encoder=None, layout=LAYOUT, **options):
    torch.manual_seed(1)
    objective = AdapSL()
    network = partial(backbone, dims=dims, activation="tanh")
    return CVRModel(encoder or Encoder(), Masked(layout, objective.heads, backbone=network, **options), objective)


def all_weights(architecture):
    return {f"{w.kind} {i}": w for i, w in enumerate(architecture.weights())}


def drop_some(architecture, model, seed, kinds=("embeddings", "linear")):
    """Drop a random third of a model's coordinates."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in architecture.coordinates(model, kinds):
            each.drop(torch.rand(each.mask.numel(), generator=draw) < 1 / 3)


def test_logits_equal_their_numpy_twin():
    model = build(dims=(6,)).double().eval()
    architecture, x = model.architecture, inputs()
    drop_some(architecture, "prediction", 1)
    drop_some(architecture, "imputation", 2)
    state = {name: value.numpy() for name, value in model.state_dict().items()}

    def effective(prefix, head, axis):
        other = {"cvr": "imputation", "imputation": "cvr"}[head]
        own, theirs = (state[f"{prefix}.own.{name}.shared_mask"] for name in (head, other))
        shared = np.where(own & theirs, state[f"{prefix}.both"], 0)
        shared = np.where(own & ~theirs, state[f"{prefix}.own.{head}.alone"], shared)
        private = state[f"{prefix}.own.{head}.private"] * state[f"{prefix}.own.{head}.private_mask"]
        return np.concatenate([shared, private], axis=axis)

    for head in ("cvr", "imputation"):
        user = effective("architecture.tables.0", head, 1)[x["user"].numpy()]
        tags = effective("architecture.tables.1", head, 1)[x["tags"].numpy()][:, :2].mean(axis=1)
        row = np.concatenate([user, tags, x["price"].double().numpy()[:, None]], axis=1)
        weight, bias = (effective(f"architecture.layers.{i}", head, 0) for i in (0, 1))
        hidden = np.tanh((row @ weight.T + bias) / np.sqrt(1 + 1e-5))
        expected = hidden @ state[f"architecture.logits.{head}.weight"][0]
        x64 = {**x, "price": x["price"].double()}
        np.testing.assert_allclose(model.outputs(x64).logits[head].detach().numpy(), expected, rtol=1e-10)
    assert f"architecture.logits.{head}.bias" not in state


def test_what_is_shared_is_half_of_every_width_and_one_tensor():
    model = build(dims=(6, 5))
    architecture = model.architecture
    shapes = [(w.kind, w.both.shape, w.of("cvr").private.shape) for w in architecture.weights()]
    assert shapes == [
        ("embeddings", (6, 2), (6, 2)),
        ("embeddings", (5, 1), (5, 2)),
        ("linear", (3, 8), (3, 8)),
        ("bias", (3,), (3,)),
        ("linear", (2, 6), (3, 6)),
        ("bias", (2,), (3,)),
    ]
    # Each is registered once, and is in both phases' steps as one object.
    names = [name for name, p in model.named_parameters(remove_duplicate=False) if name.endswith("both")]
    assert len(names) == len(shapes)
    imputation, prediction = (set(model.parameters_for(phase)) for phase in model.objective.phases)
    assert imputation & prediction == {w.both for w in architecture.weights()}
    assert not list(model.encoder.parameters())


@pytest.mark.parametrize(("backbone", "fraction"), [(MLP, 0.0), (DCNV2, 0.5), (MLP, 0.9), (DeepFM, 0.5)])
def test_every_fraction_shares_what_it_says_rounded_down(backbone, fraction):
    encoder = Encoder()
    fields = (4, 3)
    if backbone is DeepFM:  # which takes fields of one width
        encoder.tags = nn.Embedding(5, 4, padding_idx=0)
        fields = (4, 4)
    model = build(backbone=backbone, encoder=encoder, layout=Layout(fields, dense=1), shared_fraction=fraction)
    for weight in model.architecture.weights():
        whole = weight.weight("cvr")
        shared = 0 if weight.both is None else weight.both.shape[weight.axis]
        assert shared == math.floor(fraction * whole.shape[weight.axis])
    assert all(torch.isfinite(z).all() for z in model.outputs(inputs()).logits.values())


def test_a_plain_input_is_every_heads_input():
    architecture = Masked(LAYOUT, HEADS, backbone=MLP)
    assert all(z.shape == (5,) for z in architecture(torch.randn(5, LAYOUT.width)).logits.values())
    with pytest.raises(ValueError, match="takes an input 22 or 8 wide; got 9"):
        architecture(torch.randn(5, 9))


def test_one_table_under_two_names_stays_one_table():
    class Twice(Encoder):
        def __init__(self):
            super().__init__()
            self.again = self.user

        def forward(self, x):
            return torch.cat([self.user(x["user"]), self.again(x["user"]), x["price"].unsqueeze(1)], dim=1)

    model = build(encoder=Twice(), layout=Layout((4, 4), dense=1))
    assert len(model.architecture.tables) == 2
    assert model.encoder.again is model.encoder.user
    model.outputs(inputs())


def test_a_frozen_table_stays_frozen():
    encoder = Encoder()
    encoder.user.weight.requires_grad_(False)
    model = build(encoder=encoder)
    frozen = [*model.architecture.tables[0].parameters(), *model.architecture.own_tables[0].parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for p in model.architecture.tables[1].parameters())


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        (("ctr", "cvr"), {}, r"heads 'cvr' and 'imputation'; got \['ctr', 'cvr'\].*MultiDR"),
        (HEADS, {"head_options": {"cvr": {"dims": [4]}}}, "cvr_params and imputation_params must give them the same"),
    ],
)
def test_what_cannot_be_shared_is_refused(heads, options, message):
    with pytest.raises(ValueError, match=message):
        Masked(LAYOUT, heads, backbone=MLP, **options)


def trainer(model):
    """Steps of one phase, 0 the imputation's, with a weight decay that would be seen."""
    made = Trainer(model, partial(torch.optim.Adam, lr=0.05, weight_decay=0.1))
    return lambda number, seed: made.phase(number, Batch(inputs(32, seed), labels(32, seed)))


def snapshot(architecture, model):
    with torch.no_grad():
        return [each.values.clone() for each in architecture.coordinates(model)]


def test_dropped_coordinates_are_inert_under_adam_with_weight_decay_and_momentum():
    model = build()
    architecture, step = model.architecture, trainer(model)
    for seed in range(4):
        step(0, seed)
        step(1, seed)
    for number, name in enumerate(MODELS):
        drop_some(architecture, name, number)
    dropped = {name: [~each.mask.clone() for each in architecture.coordinates(name)] for name in MODELS}
    for seed in range(10, 16):
        step(0, seed)
        step(1, seed)
        for name in MODELS:
            for values, gone in zip(snapshot(architecture, name), dropped[name], strict=True):
                assert gone.any()
                assert (values[gone] == 0).all()
                assert (values[~gone] != 0).any()


@pytest.mark.parametrize(("dropper", "keeper"), [MODELS, MODELS[::-1]])
def test_a_shared_weight_that_one_model_dropped_is_trained_by_the_other_alone(dropper, keeper):
    model = build()
    architecture, step = model.architecture, trainer(model)
    phase_of = {"imputation": 0, "prediction": 1}
    for seed in range(10):
        step(0, seed)
        step(1, seed)
    before = snapshot(architecture, keeper)
    drop_some(architecture, dropper, 3)
    after = snapshot(architecture, keeper)
    assert all(torch.equal(b, a) for b, a in zip(before, after, strict=True)), "the keeper still predicts as it did"
    lost = [~each.mask for each in architecture.coordinates(dropper)]
    for seed in range(10, 15):
        held = snapshot(architecture, keeper)
        step(phase_of[dropper], seed)
        now = snapshot(architecture, keeper)
        for each, gone, old, new in zip(architecture.coordinates(keeper), lost, held, now, strict=True):
            if each.is_shared:
                assert torch.equal(old[gone], new[gone]), "momentum or decay of the model that dropped it moved it"
                assert not torch.equal(old[~gone], new[~gone])
        step(phase_of[keeper], seed)
        moved = snapshot(architecture, keeper)
        for each, gone, old, new in zip(architecture.coordinates(keeper), lost, now, moved, strict=True):
            if each.is_shared:
                assert not torch.equal(old[gone], new[gone])


def test_what_both_models_dropped_is_nobodys():
    model = build()
    architecture = model.architecture
    with torch.no_grad():
        for name in MODELS:
            for each in architecture.coordinates(name):
                each.drop(torch.ones(each.mask.numel(), dtype=torch.bool))
    for weight in architecture.weights():
        if weight.kind != "bias":
            assert not weight.both.any()
            assert not any(weight.of(head).alone.any() for head in ("cvr", "imputation"))
    assert architecture.active("prediction") == {"total": 0.0, "shared": 0.0, "private": 0.0}


def single(weight, seed=0):
    """One partly shared weight of two models, `[4, 6]`, and its shared coordinates in the first model."""
    made = PartlyShared({"cvr": weight, "imputation": weight.flip(0)}, axis=1, fraction=0.5, kind="embeddings")
    own = made.of("cvr")
    own.track_gradients()
    own.shared_gradient.copy_(torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)))
    return made, Coordinates(made, "cvr", shared=True)


@pytest.mark.parametrize(("share", "keep"), [(0.0, 0.75), (0.3, 0.5), (1.0, 0.75)])
def test_the_score_equals_its_numpy_twin(share, keep):
    made, coordinates = single(torch.randn(4, 6, generator=torch.Generator().manual_seed(4)))
    prune([[coordinates]], 0.9, share)
    for t in range(2):
        used = coordinates.mask.numpy().copy()
        weight, gradient = (v.detach().abs().numpy() for v in (made.shared("cvr"), made.of("cvr").shared_gradient))
        score = (1 - share) * weight / weight[used].mean() + share * gradient / gradient[used].mean()
        number = round(keep * 0.8**t * used.size)
        expected = used & (score >= np.sort(score[used])[-number])
        prune([[coordinates]], keep * 0.8**t, share)
        np.testing.assert_array_equal(coordinates.mask.numpy(), expected)


def test_masks_are_nested_and_a_larger_share_brings_nothing_back():
    _, coordinates = single(torch.randn(4, 6))
    seen = [coordinates.mask.clone()]
    for keep in (0.9, 0.7, 0.9, 0.4, 1.0, 0.1):
        prune([[coordinates]], keep)
        assert (coordinates.mask <= seen[-1]).all()
        seen.append(coordinates.mask.clone())
    assert [int(mask.sum()) for mask in seen] == [12, 11, 8, 8, 5, 5, 1]


def test_equal_scores_lose_the_first():
    _, coordinates = single(torch.ones(4, 6))
    prune([[coordinates]], 0.5)
    assert coordinates.mask.flatten().tolist() == [False] * 6 + [True] * 6


def test_gradients_are_summed_per_model_and_forgotten():
    model = build()
    architecture = model.architecture
    architecture.track_gradients("imputation")
    step = trainer(model)
    step(1, 0)
    gradients = [each.gradients for each in architecture.coordinates("imputation")]
    assert not any(g.any() for g in gradients), "the prediction phase gives the imputation model no gradient"
    step(0, 0)
    once = [g.clone() for g in gradients]
    assert all(g.any() for g in once)
    model.eval()
    terms = model.objective.loss(model.outputs(inputs()), labels())
    terms["imputation"].backward()
    assert all(torch.equal(a, b) for a, b in zip(once, gradients, strict=True)), "nothing is summed in evaluation"
    architecture.forget_gradients()
    assert not any(g.any() for g in gradients)


def test_the_summed_gradient_is_that_of_the_weight_in_use():
    model = build().double()
    architecture = model.architecture
    drop_some(architecture, "imputation", 1)
    architecture.track_gradients("prediction")
    x = {**inputs(), "price": inputs()["price"].double()}
    model.outputs(x).logits["cvr"].sum().backward()
    for weight in architecture.weights():
        own, jointly = weight.of("cvr"), weight.of("imputation").shared_mask
        expected = torch.where(jointly, weight.both.grad, own.alone.grad).abs()
        torch.testing.assert_close(own.shared_gradient, expected)
        torch.testing.assert_close(own.private_gradient, own.private.grad.abs())
