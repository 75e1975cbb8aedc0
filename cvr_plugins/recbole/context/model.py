"""Every registered method as a RecBole context-aware model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor

from cvr_plugins.config import ConfigError
from cvr_plugins.contracts import Labels, Method, Objective, Weighting
from cvr_plugins.encoder import Encoder, Field
from cvr_plugins.model import CVRModel
from cvr_plugins.plugins.blame import titled
from cvr_plugins.recbole.context.dataset import MethodDataset, role_keys
from cvr_plugins.recbole.context.defaults import configure
from cvr_plugins.recbole.context.fields import buckets, feature_fields, label_fields
from cvr_plugins.recbole.context.metrics import METRIC_CLASSES
from cvr_plugins.recbole.context.options import DEFAULTS, options_of
from cvr_plugins.recbole.context.propensity import FIELD, values_of
from cvr_plugins.recbole.context.trainer import MethodTrainer
from cvr_plugins.training.columns import PROPENSITY, check_needs, labels_of
from cvr_plugins.training.warm_start import Start


class MethodRecommender(AbstractRecommender):
    """Base of the RecBole model classes; `method` is what a subclass is the class of.

    `predict` returns the probability of the task that the key `score` names, `[B]`: by default p_ctcvr, the probability
    that an exposure is clicked and converts, whose label every exposure has. `predictions` returns all tasks.

    Parameters
    ----------
    config
        RecBole's, with the options of the objective, the architecture, the backbone and the weighting as flat keys
        beside RecBole's own.
    dataset
        Made by `recbole.data.create_dataset` for this model, a MethodDataset.

    Raises
    ------
    ConfigError
        For unknown keys, for a label that the method needs and the configuration does not name, and for a data set made
        for other fields.
    OptionError
        For options that a part refuses.
    """

    type = ModelType.CONTEXT
    input_type = InputType.POINTWISE
    method: ClassVar[Method]
    plugin: ClassVar[str]

    recbole_trainer: ClassVar[Any] = MethodTrainer
    recbole_dataset: ClassVar[Any] = MethodDataset
    recbole_defaults: ClassVar[Mapping[str, Any]] = DEFAULTS
    recbole_metrics: ClassVar[tuple[Any, ...]] = METRIC_CLASSES
    recbole_configure: ClassVar[Any] = classmethod(configure)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__()
        if getattr(dataset, "keys", None) != role_keys(config):
            raise ConfigError(
                f"{self.method.name} needs a data set that was made for it and for the same fields; make it with "
                "recbole.data.create_dataset(config), and leave dataset_save_path out."
            )
        options = options_of(config, self.method)
        self.device = config["device"]
        self.score = options.score
        self._schema = dataset.schema
        self._user = config["USER_ID_FIELD"]
        check_needs(
            self.method.name, [label for label in options.needs if label != PROPENSITY], list(self._schema.labels)
        )
        self.settings = {
            **options.assembly.settings(),
            "embedding_size": options.embedding_size,
            "dense": options.dense,
        }
        self.propensity_params = dict(options.propensity_params)
        self._buckets = buckets(config)
        fields = feature_fields(dataset, options.inputs, width=options.embedding_size, std=options.embedding_std)
        stats = dense_stats(fields, dataset) if options.dense == "tanh" else None
        encoder = Encoder(fields, dense=options.dense, dense_stats=stats)
        self.core = CVRModel(encoder, *options.assembly.build(encoder.layout))
        self.mechanism = self.core.objective.mechanism
        self.core.to(self.device)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is predicted, in the order of the columns of `forward`."""
        return self.core.tasks

    def vocabulary(self, dataset: Any) -> dict[str, Any]:
        """Return what a run folder's vocabulary.json holds: features in the model's order, and the tokens of each."""
        fields: Any = self.core.encoder.fields
        tokens = {field.name: dataset.field2id_token[field.name] for field in fields if not field.dense}
        return {
            "features": [{"name": field.name, "kind": field.kind} for field in fields],
            # Without the padding, which has the first id.
            "tokens": {name: [str(token) for token in found[1:]] for name, found in tokens.items()},
        }

    def start_from(self, start: Start, dataset: Any) -> str:
        """Give the model the weights of another run; return how many tokens are known, new and gone.

        Raises
        ------
        ConfigError
            As `Start.check_method` and `Start.give`, and for numbers that RecBole scales by the range of each data set.
        """
        for key in ("normalize_field", "normalize_all", "discretization"):
            if dataset.config[key]:
                raise ConfigError(
                    f"{key} scales numbers by the range of each data set, which weights from another one do not fit; "
                    "leave it out of both runs."
                )
        start.check_method(self.method, self.plugin, self.settings)
        return start.give(self.core, self.vocabulary(dataset), self.settings, reserved=1)

    @property
    def title(self) -> str:
        """The method's name, and whose it is if it is a plugin's, for messages."""
        return titled(self.method.name, self.plugin)

    def features(self, interaction: Any) -> dict[str, Tensor]:
        """Return the model's inputs out of a batch, and nothing else of it."""
        encoder: Any = self.core.encoder
        found = {field.name: interaction[field.name] for field in encoder.fields if field.name in interaction}
        return {name: values[:, 1] if name in self._buckets else values for name, values in found.items()}

    def labels(self, interaction: Any) -> Labels:
        """Return the labels of a batch in the type of the weights, conversion and action 0 wherever click is 0."""
        dtype = next(p.dtype for p in self.core.parameters())
        columns = self.label_columns(interaction)
        if FIELD in interaction:
            columns[PROPENSITY] = interaction[FIELD]
        return labels_of(columns, dtype)

    def label_columns(self, interaction: Any) -> dict[str, Tensor]:
        """Return click, conversion, and what there is of action and counterfactual, each `[B]`."""
        return {
            label: torch.stack([interaction[name] for name in names]).amax(dim=0)
            for label, names in label_fields(self._schema).items()
        }

    def users(self, interaction: Any) -> Tensor:
        """Return the user ids of a batch, by which GAUC groups."""
        users: Tensor = interaction[self._user]
        return users

    def predictions(self, interaction: Any) -> dict[str, Tensor]:
        """Return task -> probability `[B]`."""
        return self.core.predict(self.features(interaction))

    def predict(self, interaction: Any) -> Tensor:
        """Return the probability of the task `score`, `[B]`."""
        return self.predictions(interaction)[self.score]

    def forward(self, interaction: Any) -> Tensor:
        """Return probabilities `[B, n_task]`, columns in the order of `tasks`."""
        predictions = self.predictions(interaction)
        return torch.stack([predictions[task] for task in self.tasks], dim=1)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the sum of the weighted loss terms of a batch.

        Raises
        ------
        ConfigError
            In training, if the method is more than that (phases, state), which another trainer than MethodTrainer would
            leave out.
        """
        if self.training and torch.is_grad_enabled() and _is_more_than_a_loss(self.core):
            raise ConfigError(
                f"{self.title} is trained in several phases or keeps state between batches, which RecBole's Trainer "
                "leaves out. Train it with recbole.utils.get_trainer(config['MODEL_TYPE'], config['model'])."
            )
        terms = self.core.loss_terms(self.features(interaction), self.labels(interaction))
        return torch.stack(list(terms.values())).sum()


def dense_stats(fields: Iterable[Field], dataset: Any) -> dict[str, tuple[float, float]]:
    """Return dense field -> mean and standard deviation over the exposures of a data set."""
    dense = {field.name: values_of(field.name, dataset).astype(np.float64) for field in fields if field.dense}
    return {name: (float(values.mean()), float(values.std())) for name, values in dense.items()}


def _is_more_than_a_loss(core: CVRModel) -> bool:
    objective, weighting = type(core.objective), core.weighting
    phases = core.objective.phases
    return (
        len(phases) > 1
        or any(phase.terms is not None or phase.trains is not None or not phase.shared for phase in phases)
        or objective.after_batch is not Objective.after_batch
        or objective.on_epoch_end is not Objective.on_epoch_end
        or (
            weighting is not None
            and (
                type(weighting).after_batch is not Weighting.after_batch
                or type(weighting).on_epoch_end is not Weighting.on_epoch_end
            )
        )
    )
