from __future__ import annotations

import copy
import io

import pytest
import torch

from cvr_plugins.sequential import PARSCore, PseudoLabelStore, latest_events


def all_ids(core):
    return torch.arange(len(core.labels))


def total(core, ids, sessions, generator=None):
    return sum(core.step(ids, sessions, generator).values())


def test_the_terms_are_scalars_and_move_every_parameter(make_core, sessions):
    core = make_core(mlm_weight=0.5)
    terms = core.step(all_ids(core), sessions)
    assert {name: term.shape for name, term in terms.items()} == {"pll": (), "mlm": ()}
    sum(terms.values()).backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert not any(buffer.requires_grad for buffer in core.buffers())


def train(core, sessions, steps, generator, optimiser=None):
    optimiser = optimiser or torch.optim.AdamW(core.parameters(), lr=0.01)
    for _ in range(steps):
        ids = torch.randperm(len(sessions), generator=generator)[:10]
        optimiser.zero_grad()
        total(core, ids, sessions[ids], generator).backward()
        optimiser.step()
    return optimiser


def test_training_lowers_the_loss_and_finds_what_sessions_share(make_core, make_generator):
    # Item 1 is in every session beside two of seventeen others: what explains all sessions gets the label.
    generator = make_generator(0)
    others = torch.rand(200, 17, generator=generator).argsort(1)[:, :2] + 2
    sessions = torch.cat([torch.ones(200, 1, dtype=torch.int64), others], dim=1)
    core = make_core(sessions, mlm_weight=0.0, alpha_new=0.5, encoder={"initializer_range": 0.02})
    first = total(copy.deepcopy(core), torch.arange(200), sessions).item()
    train(core, sessions, 200, generator)
    assert total(copy.deepcopy(core), torch.arange(200), sessions).item() < 0.75 * first
    labels = core.labels.gather(torch.arange(200))
    assert labels.values[labels.items == 1].mean() > 0.8
    assert (core.eval().rank_session(sessions).items[:, 0] == 1).double().mean() > 0.95


def test_mlm_weight_of_zero_masks_nothing_and_has_no_head(make_core, make_generator, sessions):
    core, generator = make_core(mlm_weight=0), make_generator(0)
    before = generator.get_state()
    assert set(core.step(all_ids(core), sessions, generator)) == {"pll"}
    assert torch.equal(generator.get_state(), before)
    assert not any("mlm" in name for name in core.state_dict())


def test_a_tied_head_has_no_table_of_its_own(make_core, sessions):
    core = make_core(tie_mlm=True)
    assert [name for name, _ in core.mlm_head.named_parameters()] == ["bias"]
    gradient = torch.autograd.grad(core.step(all_ids(core), sessions)["mlm"], core.encoder.item_embedding.weight)[0]
    assert (gradient[1:-1] != 0).all()


@pytest.mark.parametrize("projection_size", [None, 5])
def test_the_chunk_size_changes_nothing(projection_size, make_core, make_generator, sessions):
    found = []
    for chunk_size in (None, 1, 7, 1000):
        torch.manual_seed(0)
        core = make_core(encoder={"projection_size": projection_size}, chunk_size=chunk_size).double()
        loss = total(core, all_ids(core), sessions, make_generator(0))
        loss.backward()
        gradients = [p.grad for p in core.parameters()]
        scores = [core.score_catalogue(sessions), *core.top_items(sessions, 4)]
        found.append([loss.detach(), core.labels.value, *gradients, *scores])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-11, atol=1e-12)


def test_sessions_count_by_their_last_events_wherever_their_padding_stands(make_core, make_sessions, make_generator):
    long = torch.cat([make_sessions(seed=1), make_sessions(seed=2)], dim=1)
    core = make_core(long, encoder={"hidden_dropout_prob": 0.3})
    last = torch.nn.functional.pad(latest_events(long, 7), (4, 2))
    found = []
    for batch in (long, last):
        torch.manual_seed(0)
        twin = copy.deepcopy(core)
        loss = total(twin, all_ids(core), batch, make_generator(0))
        loss.backward()
        twin.eval()
        found.append([loss, twin.labels.value, *(p.grad for p in twin.parameters()), twin.score_catalogue(batch)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert core.rank_session(long).items.shape[1] > 7


def test_a_session_of_one_event_is_trained_on_and_masked_nowhere(make_core, make_generator):
    sessions = torch.tensor([[4], [9]])
    core = make_core(sessions)
    terms = core.step(torch.tensor([0, 1]), sessions, make_generator(0))
    assert terms["mlm"].item() == 0
    sum(terms.values()).backward()
    assert core.labels.value.tolist() == [1, 1]
    assert all(torch.isfinite(p.grad).all() for p in core.parameters())


def through_a_file(core, fresh):
    file = io.BytesIO()
    torch.save(core.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


def test_a_resumed_run_equals_an_uninterrupted_one(make_core, make_generator, sessions):
    options = {"alpha_new": 0.4, "encoder": {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2}}
    whole, generator = make_core(**options), make_generator(0)
    optimiser = train(whole, sessions, 3, generator)

    state = copy.deepcopy(optimiser.state_dict())
    # No sessions at hand: the state brings its label store along.
    resumed = through_a_file(whole, PARSCore(make_core(**options).encoder, alpha_new=0.4))
    assert len(resumed.labels) == len(whole.labels)
    drawn, drawn_globally = generator.get_state(), torch.random.get_rng_state()
    train(whole, sessions, 3, generator, optimiser)

    torch.random.set_rng_state(drawn_globally)
    again = torch.optim.AdamW(resumed.parameters(), lr=0.01)
    again.load_state_dict(state)
    generator.set_state(drawn)
    train(resumed, sessions, 3, generator, again)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("projection_size", [None, 5])
def test_half_precision_training_stays_near_to_single(projection_size, make_core, make_generator, sessions):
    core = make_core(encoder={"projection_size": projection_size})
    expected = copy.deepcopy(core).step(all_ids(core), sessions, make_generator(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = core.step(all_ids(core), sessions, make_generator(0))
    for name, term in expected.items():
        assert found[name].dtype == torch.float32
        assert found[name].item() == pytest.approx(term.item(), rel=0.05)
    sum(found.values()).backward()
    core.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, own = core.score_catalogue(sessions), core.rank_session(sessions)
    torch.testing.assert_close(own.scores[:, 0], scores.gather(1, own.items[:, :1])[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(core.labels.gather(all_ids(core)).values.sum(1), torch.ones(len(sessions)))


@pytest.mark.parametrize(
    ("ids", "batch", "message"),
    [
        ([0, 1], [[1, 2]], "2 session ids came with 1 sessions; give one for each"),
        ([1], [[19]], "Session 1 came with the item 19, which is not among its candidates"),
        ([24], [[1]], r"Session id 24 is outside 0 .. 23"),
        ([0, 0], None, "A session is twice among the ids"),
        ([0], [[20]], r"The sessions hold the item id 20, outside 0 .. 19"),
        ([0], [[1.0]], "The sessions must be whole numbers in 2 dimensions"),
    ],
)
def test_batches_that_make_no_sense_are_refused_and_change_nothing(ids, batch, message, make_core, sessions):
    core = make_core()
    before = core.labels.value.clone()
    batch = sessions[ids] if batch is None else torch.tensor(batch)
    with pytest.raises(ValueError, match=message):
        core.step(torch.tensor(ids), batch)
    assert torch.equal(core.labels.value, before)


def test_store_and_encoder_must_be_of_one_catalogue(make_encoder):
    with pytest.raises(ValueError, match="label store has n_items = 21 and the encoder 20"):
        PARSCore(make_encoder(), PseudoLabelStore(n_items=21))
