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
from cvr_plugins.recbole.sequential._base import ENCODER_OPTIONS, SessionRecommender, losses
from cvr_plugins.recbole.sequential.dataset import ROW, SessionDataset
from cvr_plugins.sequential import PARSCore, PARSEncoder, PseudoLabelStore

CORE_OPTIONS = ("mask_ratio", "mlm_weight", "tie_mlm", "mlm_transform", "alpha_new", "pll_order", "chunk_size")


class PARS(SessionRecommender):
    """Partial-label learning on browsing sessions, without any purchase label; see `cvr_plugins.sequential.PARSCore`.

    The pseudo-labels of the training sessions are buffers of the model: a checkpoint holds them.

    hidden_size, n_layers, n_heads, inner_size, hidden_dropout_prob, attn_dropout_prob, hidden_act, layer_norm_eps,
        initializer_range, input_norm: of the encoder, see `cvr_plugins.sequential.SessionEncoder`.
    projection_size: width of a projection of items and sessions before they are compared; None compares with the item
        embeddings themselves.
    mask_ratio: probability that an event is masked.
    mlm_weight: lambda, weight of the masked-item loss; 0 leaves masking out.
    tie_mlm: masked items are scored by the item embedding instead of a table of their own.
    mlm_transform: a dense layer, GELU and LayerNorm before those scores.
    alpha_new: weight of the new prediction in an updated pseudo-label; 0 keeps the labels uniform. The paper's alpha;
        1 - alpha of the released program.
    pll_order: paper (labels are updated before the loss) or code (after it, as in the released program).
    chunk_size: items in a chunk of the catalogue softmax; None chooses. Memory, not results, depends on it.
    length_buckets, detect_anomaly: see `SessionTrainer`.
    MAX_ITEM_LIST_LENGTH: L, events of a session at most; the last ones count.
    PURCHASE_FIELD: see `SessionDataset`; never used in training.

    Ye et al.: PARS: Partial-Label-Learning-inspired Recommender Systems, AAAI 2026.
    """

    recbole_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "hidden_size": 256,
            "n_layers": 2,
            "n_heads": 4,
            "inner_size": 1024,
            "hidden_dropout_prob": 0.1,
            "attn_dropout_prob": 0.1,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
            "input_norm": True,
            "projection_size": None,
            "mask_ratio": 0.3,
            "mlm_weight": 1.0,
            "tie_mlm": False,
            "mlm_transform": False,
            "alpha_new": 0.1,
            "pll_order": "paper",
            "chunk_size": None,
            "length_buckets": None,
            "detect_anomaly": False,
            "PURCHASE_FIELD": "purchase",
            "train_neg_sample_args": None,
            "train_batch_size": 256,
            "learner": "adamw",
            "learning_rate": 1e-4,
            "weight_decay": 0.01,
            "clip_grad_norm": {"max_norm": 1.0},
            "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"},
            "metrics": ["Hit", "NDCG", "MRR", "HitWithoutHistory", "NDCGWithoutHistory", "MRRWithoutHistory"],
            "valid_metric": "NDCG@10",
        }
    )
    augmentations = ("sessions",)

    def build_core(self, config: Config, dataset: SessionDataset) -> PARSCore:
        """Return the core with the pseudo-labels of the data set's sessions."""
        options = self.options(config, (*ENCODER_OPTIONS, "projection_size"))
        encoder = PARSEncoder(self.n_items, max_length=self.max_seq_length, **options)
        sessions = dataset.sessions()
        labels = PseudoLabelStore.from_ragged(sessions.item, sessions.ptr.diff(), n_items=self.n_items)
        return PARSCore(encoder, labels, **self.options(config, CORE_OPTIONS))

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
