"""What can be settled about a run before its data are read, and refused while it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cvr_plugins.assembly import HEAD_SUFFIX, assemble
from cvr_plugins.config import Config, ConfigError, refuse_unknown, resolve
from cvr_plugins.contracts import Objective
from cvr_plugins.metrics import DEFAULT_METRICS
from cvr_plugins.plugins import registry
from cvr_plugins.rechub.trainer_options import checked_device
from cvr_plugins.training.columns import check_epochs, propensity_model
from cvr_plugins.training.watch import Watch


@dataclass(frozen=True)
class Plan:
    """A configuration whose method and options are known to fit together.

    Parameters
    ----------
    config
        With the names of all parts and every option.
    method
        Its name.
    objective
        An objective as the model's will be, for what it says of itself.
    metrics
        To be reported.
    device
        Where the model is trained; usable.
    """

    config: Config
    method: str
    objective: Objective
    metrics: tuple[str, ...]
    device: torch.device


def plan(config: Config) -> Plan:
    """Look up the parts of a configuration and check what needs no data.

    Raises
    ------
    ConfigError
        For unknown options, metrics and devices.
    OptionError
        For options that a part refuses.
    RegistryError
        For unknown names of parts.
    """
    parts_asked = {part: config[part] for part in ("architecture", "backbone", "weighting")}
    bare = assemble(config["model"], **parts_asked)
    heads = [name for name in config.options if name.endswith(HEAD_SUFFIX)]
    refuse_unknown(config, [*bare.option_names, *heads], bare.method.name)
    assembly = assemble(config["model"], **parts_asked, options=config.options)
    objective = assembly.new_objective()
    Watch(config["valid_metric"], objective.tasks)
    propensity_model(objective, config["propensity_params"])
    check_epochs(config["model"], objective, config["epochs"], allow=config["allow_unready"])
    # The settings hold every option, those of the weighting apart, where it does not matter who else has the name.
    keys = {key: value for key, value in config.to_dict().items() if key not in config.options}
    return Plan(
        config=resolve(keys, assembly.settings()),
        method=assembly.method.name,
        objective=objective,
        metrics=_metrics(config["metrics"]),
        device=usable_device(config["device"]),
    )


def usable_device(name: str) -> torch.device:
    """Return the torch device of that name, for "auto" cuda if there is one; raise ConfigError if it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return checked_device(name)


def _metrics(names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return DEFAULT_METRICS
    if not names:
        raise ConfigError(f"metrics must name at least one metric, or be null for {', '.join(DEFAULT_METRICS)}.")
    try:
        return tuple(registry().metric(name).name for name in names)
    except ValueError as error:
        raise ConfigError(f"metrics: {error}") from error
