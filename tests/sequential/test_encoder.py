from __future__ import annotations

import pytest
import torch

from cvr_plugins.sequential import PARSEncoder, latest_events

ACTIVATIONS = ["gelu", "relu", "swish", "tanh", "sigmoid"]


def as_recbole(encoder, layers):
    """Hand the weights of our layers to those of RecBole's TransformerEncoder."""
    for ours, theirs in zip(encoder.layers, layers, strict=True):
        attention, network = theirs.multi_head_attention, theirs.feed_forward
        pairs = [
            (ours.attention_output, attention.dense),
            (ours.attention_norm, attention.LayerNorm),
            (ours.inner, network.dense_1),
            (ours.output, network.dense_2),
            (ours.output_norm, network.LayerNorm),
        ]
        for mine, other in pairs:
            other.load_state_dict(mine.state_dict())
        thirds = zip(*(ours.query_key_value.get_parameter(name).chunk(3) for name in ("weight", "bias")), strict=True)
        for other, (weight, bias) in zip((attention.query, attention.key, attention.value), thirds, strict=True):
            other.load_state_dict({"weight": weight, "bias": bias})


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
def test_the_layers_are_those_of_recboles_encoder(hidden_act, make_encoder, sessions):
    layers = pytest.importorskip("recbole.model.layers")
    encoder = make_encoder(hidden_act=hidden_act, n_layers=3, n_heads=4).double()
    theirs = layers.TransformerEncoder(3, 4, 8, 12, 0.0, 0.0, hidden_act, 1e-12).double()
    # Gains and biases of their own, so that a LayerNorm in another place shows.
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    as_recbole(encoder, theirs.layer)
    events = sessions != 0
    positions = torch.arange(sessions.shape[1]).expand_as(sessions)
    embedded = encoder.input_norm(encoder.item_embedding(sessions) + encoder.position_embedding(positions))
    expected = theirs(embedded, torch.where(events, 0.0, -10000.0)[:, None, None], output_all_encoded_layers=False)[0]
    torch.testing.assert_close(encoder(sessions)[events], expected[events], rtol=1e-10, atol=1e-10)


def test_without_input_norm_the_first_layer_gets_the_sum_of_the_embeddings(make_encoder, sessions):
    encoder, received = make_encoder(input_norm=False), []
    encoder.layers[0].register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    encoder(sessions)
    positions = torch.arange(sessions.shape[1]).expand_as(sessions)
    expected = encoder.item_embedding.weight[sessions] + encoder.position_embedding.weight[positions]
    events = sessions != 0
    torch.testing.assert_close(received[0][events], expected[events])
    assert not any(name.startswith("input_norm") for name, _ in encoder.named_parameters())


@pytest.mark.parametrize("at", ["end", "start", "between"])
def test_padding_changes_nothing_wherever_it_stands(at, make_encoder, sessions):
    encoder = make_encoder(max_length=30).double()
    width = sessions.shape[1]
    columns = {
        "end": torch.arange(width),
        "start": torch.arange(width) + 9,
        "between": 3 * torch.arange(width),
    }[at]
    padded = torch.zeros(len(sessions), 25, dtype=torch.int64)
    padded[:, columns] = sessions
    hidden, wide = encoder(sessions), encoder(padded)
    events = sessions != 0
    torch.testing.assert_close(wide[:, columns][events], hidden[events], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        encoder.user_embedding(wide, padded), encoder.user_embedding(hidden, sessions), rtol=1e-11, atol=1e-11
    )


def test_the_padding_embedding_reaches_no_user(make_encoder, sessions):
    encoder = make_encoder().double()
    before = encoder.user_embedding(encoder(sessions), sessions)
    with torch.no_grad():
        encoder.item_embedding.weight[0] = 1e3
    torch.testing.assert_close(encoder.user_embedding(encoder(sessions), sessions), before, rtol=1e-12, atol=1e-12)


def test_a_session_without_an_event_is_a_number_and_disturbs_no_other(make_encoder, sessions):
    encoder = make_encoder()
    padded = torch.cat([torch.zeros_like(sessions[:1]), sessions])
    users = encoder.user_embedding(encoder(padded), padded)
    assert torch.isfinite(users).all()
    torch.testing.assert_close(users[1:], encoder.user_embedding(encoder(sessions), sessions))
    users.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_first_weights(make_encoder):
    encoder = make_encoder(initializer_range=0.3, hidden_size=64, inner_size=128, projection_size=32)
    for name, parameter in encoder.named_parameters():
        module = encoder.get_submodule(name.rpartition(".")[0])
        if isinstance(module, torch.nn.LayerNorm):
            assert (parameter == (1 if name.endswith("weight") else 0)).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            rows = parameter[1:] if name == "item_embedding.weight" else parameter
            assert rows.std().item() == pytest.approx(0.3, rel=0.15)
    assert (encoder.item_embedding.weight[0] == 0).all()
    assert encoder.item_embedding.weight.shape == (21, 64)
    assert encoder.mask_id == 20


def test_dropout_is_where_it_is_asked_for(make_encoder, sessions):
    for option in ("hidden_dropout_prob", "attn_dropout_prob"):
        encoder = make_encoder(**{option: 0.5})
        assert not torch.equal(encoder(sessions), encoder(sessions))
        encoder.eval()
        assert torch.equal(encoder(sessions), encoder(sessions))
    encoder = make_encoder()
    assert torch.equal(encoder(sessions), encoder(sessions))


def test_sessions_wider_than_the_position_table_are_refused(make_encoder):
    wide = torch.ones(2, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match="9 columns wide and max_length is 7; cut them by latest_events"):
        make_encoder()(wide)
    assert make_encoder()(latest_events(wide, 7)).shape == (2, 7, 8)


def test_there_must_be_an_item():
    with pytest.raises(ValueError, match="n_items must be at least 2"):
        PARSEncoder(1)
