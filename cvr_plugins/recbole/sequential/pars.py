"""PARS as a RecBole model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import Tensor

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole.compat.binding import bind
from cvr_plugins.recbole.sequential._base import DEFAULTS, SessionRecommender, defaults_of, losses
from cvr_plugins.recbole.sequential.dataset import ROW, SessionDataset
from cvr_plugins.sequential import PARSCore, PARSEncoder, PseudoLabelStore

ENCODER, CORE = defaults_of(PARSEncoder), defaults_of(PARSCore)


class PARS(SessionRecommender):
    """Partial-label learning on browsing sessions, without any purchase label; see `cvr_plugins.sequential.PARSCore`.

    The pseudo-labels of the training sessions are buffers of the model: a checkpoint holds them.

    Parameters
    ----------
    hidden_size, n_layers, n_heads, inner_size, hidden_dropout_prob, attn_dropout_prob, hidden_act, layer_norm_eps,
    initializer_range, input_norm
        Of the encoder, see `cvr_plugins.sequential.SessionEncoder`.
    projection_size
        Width of a projection of items and sessions before they are compared; None compares with the item embeddings
        themselves.
    mask_ratio
        Probability that an event is masked.
    mlm_weight
        lambda, weight of the masked-item loss; 0 leaves masking out.
    tie_mlm
        Masked items are scored by the item embedding instead of a table of their own.
    mlm_transform
        A dense layer, GELU and LayerNorm before those scores.
    alpha_new
        Weight of the new prediction in an updated pseudo-label; 0 keeps the labels uniform. The paper's alpha, and
        1 - alpha of the released program.
    pll_order
        `paper` (labels are updated before the loss) or `code` (after it, as in the released program).
    chunk_size
        Items in a chunk of the catalogue softmax; None chooses. Memory, not results, depends on it.
    length_buckets, detect_anomaly
        See `SessionTrainer`.
    MAX_ITEM_LIST_LENGTH
        L, events of a session at most; the last ones count.
    PURCHASE_FIELD
        See `SessionDataset`; never used in training.

    Notes
    -----
    The parameters are keys of RecBole's configuration.

    References
    ----------
    Ye et al.: PARS: Partial-Label-Learning-inspired Recommender Systems, AAAI 2026.
    """

    recbole_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            **DEFAULTS,
            **ENCODER,
            **CORE,
            "train_batch_size": 256,
            "learner": "adamw",
            "learning_rate": 1e-4,
            "weight_decay": 0.01,
            "clip_grad_norm": {"max_norm": 1.0},
            "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"},
        }
    )
    augmentations = ("sessions",)

    def build_core(self, config: Config, dataset: SessionDataset) -> PARSCore:
        """Return the core with the pseudo-labels of the data set's sessions."""
        options = self.options(config, ENCODER)
        encoder = PARSEncoder(self.n_items, max_length=self.max_seq_length, **options)
        sessions = dataset.sessions()
        labels = PseudoLabelStore.from_ragged(sessions.item, sessions.ptr.diff(), n_items=self.n_items)
        return PARSCore(encoder, labels, **self.options(config, CORE))

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Return the loss terms, named `pll` and, unless `mlm_weight` is 0, `mlm`; their sum is the loss.

        Updates the pseudo-labels of the batch. Raises ConfigError if the batch does not say which sessions it holds.
        """
        if ROW not in interaction:
            raise ConfigError(f"A batch for PARS needs the field {ROW!r} of SessionDataset, which it lacks.")
        terms = self.core.step(interaction[ROW], interaction[self.ITEM_SEQ])
        return losses(*terms)(**terms)


# A checkpoint refers to the class alone, and whoever reads it may know nothing of us yet.
bind(PARS)
