"""What a CVR method changes in a RecBole configuration before it is completed."""

from __future__ import annotations

from typing import Any

from cvr_plugins.recbole.context.metrics import expanded, is_key, metric_class, metric_classes
from cvr_plugins.recbole.context.options import DEFAULTS, options_of


def configure(cls: Any, config: Any) -> None:
    """Complete what the user gave of `eval_args`, write out `metrics`, and make the metrics named known to RecBole.

    RecBole takes `eval_args` whole: where only a split is given, it would put its own order and mode beside it, and
    evaluate by ranking. What can be told of the options without data is checked before any are read. Called once the
    defaults are in `config.internal_config_dict`, before the final values are made.
    Raises ConfigError for an unknown metric and for unknown keys, OptionError for options that a part refuses.
    """
    from cvr_plugins.recbole.compat.binding import register_metrics

    given = config.external_config_dict
    values = {**config.internal_config_dict, **getattr(config, "dataset_keys", {}), **given}
    options = options_of(config, cls.method, values)
    if isinstance(given.get("eval_args"), dict):
        given["eval_args"] = {**DEFAULTS["eval_args"], **given["eval_args"]}
    named = given if given.get("metrics") else config.internal_config_dict
    names = [named["metrics"]] if isinstance(named["metrics"], str) else list(named["metrics"])
    named["metrics"] = expanded(names, options.tasks, oracle=values["COUNTERFACTUAL_FIELD"] is not None)
    register_metrics(metric_classes(named["metrics"]))
    watched = given.get("valid_metric")
    if is_key(watched):
        register_metrics((metric_class(watched),))
