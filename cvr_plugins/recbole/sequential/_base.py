"""What the RecBole models of sessions share."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.trainer import Trainer
from recbole.utils import InputType
from torch import Tensor

from cvr_plugins.assembly import options_of
from cvr_plugins.config import ConfigError
from cvr_plugins.recbole.evaluation import RECBOLE_METRICS
from cvr_plugins.recbole.sequential.dataset import AUGMENTATIONS, SessionDataset
from cvr_plugins.recbole.sequential.trainer import SessionTrainer

# Of every model: what is asked of its batches, its evaluation, and what RecBole would otherwise fill in.
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "length_buckets": None,
        "detect_anomaly": False,
        "PURCHASE_FIELD": "purchase",
        "train_neg_sample_args": None,
        "metrics": ["Hit", "NDCG", "MRR", "HitWithoutHistory", "NDCGWithoutHistory", "MRRWithoutHistory"],
        "valid_metric": "NDCG@10",
    }
)


def defaults_of(part: type) -> dict[str, Any]:
    """Return the options of an encoder or a core and their defaults; `max_length` is RecBole's own key."""
    return {name: option.default for name, option in options_of(part).items() if name != "max_length"}


@cache
def losses(*terms: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return the type of the loss terms of these names: RecBole adds up a tuple, and a dictionary it cannot use."""
    return namedtuple("Losses", terms)


class SessionRecommender(SequentialRecommender):
    """A RecBole sequential model around a core of `cvr_plugins.sequential`.

    Raises ConfigError for an option that the core refuses, and for one of RecBole's that would be without effect.
    """

    input_type = InputType.POINTWISE
    recbole_dataset: ClassVar[type[Dataset]] = SessionDataset
    recbole_trainer: ClassVar[type[Trainer]] = SessionTrainer
    recbole_metrics: ClassVar[tuple[type, ...]] = RECBOLE_METRICS
    recbole_defaults: ClassVar[Mapping[str, Any]] = {}
    augmentations: ClassVar[tuple[str, ...]] = AUGMENTATIONS

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        name = type(self).__name__
        if not isinstance(dataset, SessionDataset):
            raise ConfigError(f"{name} needs a SessionDataset, not {type(dataset).__name__}; use {name}Dataset.")
        self._check_unused(config)
        try:
            self.core = self.build_core(config, dataset)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error

    def build_core(self, config: Config, dataset: SessionDataset) -> Any:
        """Return what holds the parameters and does the computing."""
        raise NotImplementedError

    @classmethod
    def recbole_configure(cls, config: Config) -> None:
        """Let the user's `eval_args` change the model's key by key; RecBole would fill up with its own."""
        given, own = config.external_config_dict.get("eval_args"), cls.recbole_defaults.get("eval_args")
        if isinstance(given, Mapping) and own:
            config.external_config_dict["eval_args"] = {**own, **given}

    def options(self, config: Config, names: Iterable[str]) -> dict[str, Any]:
        """Return the options of these names, the model's default where the configuration has none."""
        return {name: self.recbole_defaults[name] if config[name] is None else config[name] for name in names}

    def predict(self, interaction: Interaction) -> Tensor:
        """Return the score of each row's item, `[B]`."""
        return self.score_items(interaction, interaction[self.ITEM_ID][:, None])[:, 0]

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return the scores of all items, `[B, n_items]`, -inf for the padding id 0."""
        scores: Tensor = self.core.score_catalogue(interaction[self.ITEM_SEQ])
        return scores

    def score_items(self, interaction: Interaction, item_ids: Tensor) -> Tensor:
        """Return the scores of the given items, `[B, K]`, -inf for the padding id 0. item_ids: `[B, K]`."""
        scores: Tensor = self.core.score_items(interaction[self.ITEM_SEQ], item_ids)
        return scores

    def _check_unused(self, config: Config) -> None:
        name = type(self).__name__
        if config["train_neg_sample_args"]["distribution"] != "none":
            raise ConfigError(f"{name} trains without negative samples; set train_neg_sample_args to None.")
        if config["loss_type"] not in (None, "CE"):
            raise ConfigError(f"{name} has a loss of its own; leave out loss_type: {config['loss_type']}.")
        if config["transform"] is not None:
            raise ConfigError(f"{name} does its own masking; leave out transform: {config['transform']}.")
        if config["augmentation"] not in (None, *self.augmentations):
            raise ConfigError(
                f"augmentation must be {self.augmentations[0]!r} with {name}; got {config['augmentation']!r}."
            )
