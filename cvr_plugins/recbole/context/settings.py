"""What a CVR method's training needs of a RecBole configuration, refused before training starts where it lacks."""

from __future__ import annotations

from typing import Any

from recbole.utils import EvaluatorType

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole.context.metrics import is_key
from cvr_plugins.training.watch import Watch


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


def watch_of(config: Any, model: Any) -> Watch | None:
    """Return the key of a report that early stopping watches, None for one of RecBole's own metrics.

    Adds it to `metrics` if it is not among them. Raises ConfigError as `Watch` does.
    """
    key = config["valid_metric"]
    if key.lower() not in [name.lower() for name in config["metrics"]]:
        config["metrics"] = [*config["metrics"], key]
    return Watch(key, model.tasks) if is_key(key) else None
