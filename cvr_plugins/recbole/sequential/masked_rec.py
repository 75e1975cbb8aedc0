"""Masked-item prediction, as in BERT4Rec, as a RecBole model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import Tensor

from cvr_plugins.recbole.compat.binding import bind
from cvr_plugins.recbole.sequential._base import DEFAULTS, SessionRecommender, defaults_of, losses
from cvr_plugins.recbole.sequential.dataset import SessionDataset
from cvr_plugins.sequential import MaskedItemCore, SessionEncoder

ENCODER, CORE = defaults_of(SessionEncoder), defaults_of(MaskedItemCore)


class MaskedRec(SessionRecommender):
    """Naming hidden items from both sides: PARS without pseudo-labels; see `cvr_plugins.sequential.MaskedItemCore`.

    Takes RecBole's BERT4Rec options by their names, with its defaults, and its protocol (the last two events of every
    user held out). Masks are drawn for a whole batch at once, on the device, and in training alone.

    Parameters
    ----------
    hidden_size, n_layers, n_heads, inner_size, hidden_dropout_prob, attn_dropout_prob, hidden_act, layer_norm_eps,
    initializer_range, input_norm
        Of the encoder, see `cvr_plugins.sequential.SessionEncoder`.
    mask_ratio
        Probability that an event is masked.
    ft_ratio
        Probability that a sequence has its last event masked instead and nothing else, as prediction asks for it.
        RecBole's BERT4Rec draws once for a whole batch.
    tie_mlm
        Items are scored by the item embedding instead of a table of their own.
    mlm_transform
        A dense layer, GELU and LayerNorm before those scores.
    chunk_size
        Items in a chunk of the catalogue softmax; None chooses. Memory, not results, depends on it.
    augmentation
        `prefixes` (a row for every prefix of a sequence, as RecBole's sequential models have) or `sessions` (one row
        per sequence, its last MAX_ITEM_LIST_LENGTH events: far shorter epochs).
    length_buckets, detect_anomaly
        See `SessionTrainer`.
    MAX_ITEM_LIST_LENGTH
        L, events of a sequence at most, `[MASK]` included; the last ones count.

    Notes
    -----
    The parameters are keys of RecBole's configuration.

    References
    ----------
    Sun et al.: BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer, CIKM
    2019.
    """

    recbole_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            **DEFAULTS,
            **ENCODER,
            **CORE,
            "hidden_size": 64,
            "n_heads": 2,
            "inner_size": 256,
            "hidden_dropout_prob": 0.2,
            "attn_dropout_prob": 0.2,
            "augmentation": "prefixes",
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        }
    )

    def build_core(self, config: Config, dataset: SessionDataset) -> MaskedItemCore:
        """Return the core."""
        options = self.options(config, ENCODER)
        encoder = SessionEncoder(self.n_items, max_length=self.max_seq_length, **options)
        return MaskedItemCore(encoder, **self.options(config, CORE))

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Return the loss, a tuple of one term named `mlm`."""
        terms = self.core.step(interaction[self.ITEM_SEQ])
        return losses(*terms)(**terms)


# A checkpoint refers to the class alone, and whoever reads it may know nothing of us yet.
bind(MaskedRec)
