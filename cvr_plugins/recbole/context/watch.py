"""What a CVR method's training needs of a RecBole configuration, refused before training starts where it lacks."""

from __future__ import annotations

from typing import Any

from recbole.utils import EvaluatorType

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import direction, is_defined, parse_key
from cvr_plugins.nearest import did_you_mean
from cvr_plugins.plugins import RegistryError, registry
from cvr_plugins.recbole.context.metrics import is_key
from cvr_plugins.training.step import TrainingError

LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")


def check_settings(config: Any, model: Any) -> None:
    """Raise ConfigError for settings under which a CVR method would be trained or evaluated as something else."""
    title = model.title
    if config["train_neg_sample_args"]["distribution"] != "none":
        raise ConfigError(
            f"{title}: train_neg_sample_args would make up exposures, with the clicks and conversions of real ones; "
            "leave it out, or set it to null."
        )
    modes = sorted(set(config["eval_args"]["mode"].values()))
    if config["eval_type"] is not EvaluatorType.VALUE or modes != ["labeled"]:
        raise ConfigError(
            f"{title} is evaluated on labelled exposures: metrics must be keys such as cvr/click/auc, or RecBole's "
            f"AUC, LogLoss, MAE or RMSE, and eval_args.mode must be labeled; got metrics "
            f"{', '.join(config['metrics'])} and mode {', '.join(modes)}."
        )
    learner = str(config["learner"]).lower()
    if learner not in LEARNERS:
        hint = did_you_mean(learner, LEARNERS)
        known = f"learner must be one of {', '.join(LEARNERS)}; got {config['learner']!r}."
        raise ConfigError(" ".join(filter(None, [known, hint])))


class Watch:
    """The validation metric that early stopping watches; adds it to `metrics` if it is not among them.

    bigger: whether larger values are better. Raises ConfigError for a report's key that is unknown, has no better
    direction, or is of a task that the model does not predict.
    """

    def __init__(self, config: Any, model: Any) -> None:
        self.key = config["valid_metric"]
        if self.key.lower() not in [name.lower() for name in config["metrics"]]:
            config["metrics"] = [*config["metrics"], self.key]
        if not is_key(self.key):
            self.bigger = bool(config["valid_metric_bigger"])
            return
        find = registry().metric
        try:
            self.task, self.space, self.metric = parse_key(self.key, find=find)
            self.bigger = direction(self.key, find=find) == "max"
        except (ValueError, RegistryError) as error:
            raise ConfigError(f"valid_metric: {error}") from error
        if self.task not in model.tasks:
            raise ConfigError(
                f"valid_metric {self.key!r} is of a task this model does not predict; it predicts "
                f"{', '.join(model.tasks)}."
            )

    def check(self, dataset: Any) -> None:
        """Raise TrainingError if there will be no value on a validation part."""
        if not is_key(self.key):
            return
        labels = {name: column.to_numpy() for name, column in dataset.label_frame().items()}
        for wanted, label in ((self.space == "oracle", "counterfactual"), (self.task == "ctavr", "action")):
            if wanted and label not in labels:
                raise TrainingError(
                    f"The validation metric {self.key} needs the label {label!r}; name its field with "
                    f"{label.upper()}_FIELD, or watch another with valid_metric."
                )
        users = dataset.inter_feat[dataset.uid_field].numpy()
        if not is_defined(self.key, groups=users, find=registry().metric, **labels):
            raise self.undefined(f" of {len(users)} rows")

    def undefined(self, counted: str) -> TrainingError:
        """Return the error to raise where the watched metric has no value."""
        return TrainingError(
            f"The validation metric {self.key} is undefined on the validation data{counted}: it needs labels of both "
            "kinds there. Give a larger validation split, or watch another with valid_metric, such as "
            "ctcvr/entire/log_loss."
        )
