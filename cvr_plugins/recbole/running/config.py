"""RecBole's configuration, made without running what it is given and without side effects on the process."""

from __future__ import annotations

import ast
import difflib
import functools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType

from cvr_plugins.config import ConfigError, Loader, read_mapping, refuse_processes
from cvr_plugins.plugins.blame import blamed
from cvr_plugins.recbole import names
from cvr_plugins.recbole.compat.binding import bind, register_metrics
from cvr_plugins.recbole.compat.checkpoints import FRAMEWORK
from cvr_plugins.recbole.compat.numpy_names import give_old_names
from cvr_plugins.recbole.compat.process_state import anomaly_mode_kept
from cvr_plugins.recbole.evaluation import RECBOLE_METRICS
from cvr_plugins.recbole.evaluation.names import purchase_field, requested
from cvr_plugins.recbole.running import datasets
from cvr_plugins.wording import flat, sentence

_CERTAIN = 0.9
_RECBOLES_METRICS = "recbole.evaluator.metrics"
_NEVER = os.path.join(os.devnull, "unread")
_UNPICKLED = ("dataset_save_path", "dataloaders_save_path")
_DERIVED = {
    *("data_path", "device", "eval_type", "MODEL_TYPE", "MODEL_INPUT_TYPE", "single_spec", "local_rank"),
    *("valid_metric_bigger", "valid_neg_sample_args", "test_neg_sample_args", *_UNPICKLED),
}
"""Keys whose values RecBole makes of others, or of the machine."""

_PICKLING = ("save_dataset", "save_dataloaders")


class YAMLLoader(Loader):
    """The loader of all configurations, which also reads `!!python/tuple`, as RecBole does: it holds no code."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


YAMLLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


class Config(RecBoleConfig):
    """RecBole's `Config`, for use in its place: `from cvr_plugins.recbole import Config`.

    Keys, their order of precedence and the values that come of them are RecBole's. Different are:

    - text is never executed: a value of `config_dict` or `command_line` that is a Python literal (`'[64, 32]'`,
      `'1e-3'`, `'None'`) becomes that value, as in RecBole, and all other text stays what it is;
    - `sys.argv` is not read; give `command_line=sys.argv[1:]` for RecBole's `--key=value`, which wins over all else;
    - `config_dict` is copied, `CUDA_VISIBLE_DEVICES` and numpy are left as they are. `gpu_id` counts the GPUs that the
      process sees; `use_gpu: False` means the CPU;
    - pickled data sets (`dataset_save_path`, `dataloaders_save_path`) are refused, since reading one executes it.

    Raises ConfigError in one sentence for what RecBole refuses; warns about a key that is most likely misspelt.
    """

    parameters: dict[str, list[str]]

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | str | Path | None = None,
        config_dict: Mapping[str, Any] | None = None,
        *,
        command_line: Sequence[str] = (),
    ) -> None:
        self._command_line = tuple(command_line)
        # So that RecBole's own models can be evaluated by them, too.
        register_metrics(RECBOLE_METRICS)
        try:
            super().__init__(model, dataset, config_file_list, config_dict)
        except (KeyError, TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError) as error:
            if type(error).__module__.startswith("cvr_plugins."):
                raise
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            raise ConfigError(f"RecBole refuses the configuration: {sentence(flat(text))}") from error
        give_old_names()

    def compatibility_settings(self) -> None:
        """Give RecBole's modules, and no others, the names that numpy has dropped."""
        give_old_names()

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        # RecBole appends to these lists, which are its argument lists themselves.
        self.parameters = {category: list(names) for category, names in self.parameters.items()}

    def _build_yaml_loader(self) -> type[yaml.SafeLoader]:
        return YAMLLoader

    def _update_internal_config_dict(self, file: str) -> dict[str, Any]:
        # RecBole makes the path of the data set's name, which may lead out of its own files.
        if Path(os.path.normpath(file)).is_relative_to(Path(recbole.__file__).resolve().parent / "properties"):
            self.internal_config_dict.update(found := _read(file))
            return found
        return {}

    def _load_config_files(self, file_list: Sequence[str | Path] | str | Path | None) -> dict[str, Any]:
        files = [file_list] if isinstance(file_list, (str, Path)) else file_list or []
        merged: dict[str, Any] = {}
        for file in files:
            merged.update(_read(file))
        return merged

    def _load_variable_config_dict(self, config_dict: Mapping[str, Any] | None) -> dict[str, Any]:
        if config_dict is None:
            return {}
        if not isinstance(config_dict, Mapping) or not all(isinstance(key, str) for key in config_dict):
            raise ConfigError(f"config_dict is a mapping of keys to values; got {config_dict!r:.80}.")
        return self._convert_config_dict(config_dict)

    def _convert_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: _literal(value) if isinstance(value, str) else _copied(value) for key, value in config_dict.items()
        }

    def _load_cmd_line(self) -> dict[str, Any]:
        given: dict[str, str] = {}
        for argument in self._command_line:
            key, equals, value = argument.removeprefix("--").partition("=")
            if not (equals and key):
                raise ConfigError(f"Expected --key=value, such as --learning_rate=0.01; got {argument!r}.")
            if given.setdefault(key, value) != value:
                raise ConfigError(f"{key} is given twice, as {given[key]!r} and as {value!r}; leave one out.")
        return self._convert_config_dict(given)

    def _get_model_and_dataset(self, model: str | type | None, dataset: str | None) -> tuple[str, type, str]:
        given = self.external_config_dict
        refuse_processes(given)
        model = given.get("model") if model is None else model
        dataset = given.get("dataset") if dataset is None else dataset
        for key, value in (("model", model), ("dataset", dataset)):
            if value is None:
                raise ConfigError(f"No {key} given: give it to the call, or '{key}: ...' in a configuration file.")
        if not isinstance(dataset, str):
            raise ConfigError(f"dataset must be a name; got {dataset!r}.")
        self._given_dataset = dataset
        self._place = datasets.find(dataset, given.get("data_path"))
        if self._place is not None and not self._place.keys:
            # A file or folder, which is found from elsewhere, too.
            self._given_dataset = str(Path(dataset).resolve())
        with anomaly_mode_kept():
            model_class = _find(model) if isinstance(model, str) else model
        # Of a contested name RecBole knows the qualified form, which the class itself does not have.
        name = bind(model_class)
        give_old_names()
        return name, model_class, dataset if self._place is None else self._place.name

    @property
    def dataset_keys(self) -> Mapping[str, Any]:
        """What a registered data set says of its fields, below what the user gives; empty for any other data."""
        return {} if self._place is None else self._place.keys

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        with blamed(model, names.owner(model), "recbole_configure", ConfigError):
            super()._load_internal_config_dict(model, model_class, dataset)
        if self._place is not None:
            self._take_keys_of(self._place, model_class)
        self._warn_of_misspelt(model_class)

    def _take_keys_of(self, place: datasets.Place, model_class: type) -> None:
        internal, given = self.internal_config_dict, self.external_config_dict
        internal.update(place.keys)
        # A model that reads labels by their roles says itself what is to be loaded.
        if place.keys and "load_col" not in getattr(model_class, "recbole_defaults", {}):
            metrics = given.get("metrics") or internal["metrics"]
            named = [metrics] if isinstance(metrics, str) else metrics
            labels = [given.get("LABEL_FIELD"), given.get("PURCHASE_FIELD") or internal.get("PURCHASE_FIELD")]
            if requested({"metrics": named}):
                labels.append(purchase_field(given | {"PURCHASE_FIELD": labels[1]}))
            internal["load_col"] = place.load_col(labels)

    def _set_default_parameters(self) -> None:
        for key in _UNPICKLED:
            if self.final_config_dict.get(key) is not None:
                raise ConfigError(f"{key} names a pickled file, and reading one executes it; leave {key} out.")
            # RecBole looks for a pickled file in checkpoint_dir otherwise, and reads what it finds.
            self.final_config_dict[key] = _NEVER
        for key in _PICKLING:
            if self.final_config_dict.get(key):
                warnings.warn(f"{key} is passed over: what it writes could only be read back by executing a pickle.")
                self.final_config_dict[key] = False
        self._check_numbers()
        super()._set_default_parameters()
        self._check_watched()
        if self._place is not None:
            self.final_config_dict["data_path"] = str(self._place.folder)

    def _init_device(self) -> None:
        values = self.final_config_dict
        chosen = values["gpu_id"]
        values["gpu_id"] = ",".join(map(str, chosen)) if isinstance(chosen, (tuple, list)) else str(chosen)
        values["single_spec"] = True
        values["local_rank"] = 0
        values["device"] = _device(values["gpu_id"], values.get("use_gpu", True))

    def to_dict(self) -> dict[str, Any]:
        """Return every key as YAML can hold it, from which an equal configuration can be made.

        Raises
        ------
        ConfigError
            For a value that cannot be written down.
        """
        values = {key: _written(key, value) for key, value in self.final_config_dict.items() if key not in _DERIVED}
        if values["train_neg_sample_args"]["distribution"] == "none":
            values["train_neg_sample_args"] = None
        given = self.external_config_dict.get("data_path")
        values.update({"dataset": self._given_dataset, **({} if given is None else {"data_path": str(given)})})
        return {"model": values.pop("model"), "dataset": values.pop("dataset"), **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration that `to_dict` told of; text is what it was, whatever it looks like."""
        return cls(config_dict={key: repr(value) if isinstance(value, str) else value for key, value in values.items()})

    def stored(self) -> dict[str, Any]:
        """Return what a checkpoint says of its run."""
        about = {"framework": FRAMEWORK, "model": self["model"], "plugin": self.plugin}
        return {**about, "config": self.to_dict()}

    @property
    def plugin(self) -> str | None:
        """The plugin that the model is of, "builtin" or "recbole"; None for a class that was never registered."""
        return names.owner(self["model"])

    def _check_numbers(self) -> None:
        for key, value in self.external_config_dict.items():
            default = self.internal_config_dict.get(key)
            if isinstance(value, str) and isinstance(default, (bool, int, float)):
                kind = "true or false" if isinstance(default, bool) else "a number"
                raise ConfigError(f"{key} must be {kind}; got {value!r}.")

    def _check_watched(self) -> None:
        values = self.final_config_dict
        names = [name.lower() for name in values["metrics"]]
        # Others may report under more than one name, and check for themselves.
        if any(metrics_dict[name].__module__ != _RECBOLES_METRICS for name in names):
            return
        ranked = values["eval_type"] == EvaluatorType.RANKING
        reported = [f"{name}@{k}" if ranked and name != "gauc" else name for name in names for k in values["topk"]]
        if values["valid_metric"].lower() not in reported:
            among = ", ".join(dict.fromkeys(reported))
            ours = " metrics and valid_metric must both be names of ours, or both of RecBole's."
            raise ConfigError(
                f"valid_metric {values['valid_metric']!r} is not among what metrics and topk ask for: {among}."
                + ours * ("/" in values["valid_metric"])
            )

    def _warn_of_misspelt(self, model_class: type) -> None:
        known = {name for names in self.parameters.values() for name in names} | set(self.internal_config_dict)
        for key in self.external_config_dict:
            meant = None if key in known else _misspelt(key, known)
            if meant is not None and key not in _keys_of_models():
                warnings.warn(f"RecBole knows no key {key!r}; is {meant!r} meant?")


def _read(path: str | Path) -> dict[str, Any]:
    return read_mapping(path, YAMLLoader, "a RecBole configuration")


def _literal(text: str) -> Any:
    """Return the number, list, tuple, mapping, truth value or None that a text is in Python's spelling, or the text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)
    return value if value is None or isinstance(value, (str, int, float, list, tuple, dict)) else text


def _copied(value: Any) -> Any:
    """Return a value with the containers it is made of copied, and what they hold as it is."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(each) for each in value)
    return value


def _find(name: str) -> type:
    try:
        return names.find(name)
    except ImportError as error:
        raise ConfigError(str(error)) from error


def _device(gpu_id: str, use_gpu: bool) -> torch.device:
    if not gpu_id.strip() or not use_gpu or not torch.cuda.is_available():
        return torch.device("cpu")
    first = gpu_id.split(",")[0].strip()
    count = torch.cuda.device_count()
    if not first.isdigit() or int(first) >= count:
        seen = "1 GPU, number 0" if count == 1 else f"{count} GPUs, numbers 0 to {count - 1}"
        raise ConfigError(f"gpu_id {gpu_id!r} is not to be had: this process sees {seen}.")
    return torch.device("cuda", int(first))


def _misspelt(key: str, known: Iterable[str]) -> str | None:
    """Return the known key that is almost certainly meant: the same letters, or all but one or two of many."""
    known = sorted(known)

    def letters(name: str) -> str:
        return name.replace("_", "").replace("-", "").casefold()

    same = [name for name in known if letters(name) == letters(key)]
    return next(iter(same or difflib.get_close_matches(key, known, n=1, cutoff=_CERTAIN)), None)


@functools.lru_cache(maxsize=1)
def _keys_of_models() -> frozenset[str]:
    """Return the keys of all models of RecBole: one that the model at hand has not is not misspelt for that."""
    files = Path(recbole.__file__).parent.glob("properties/model/*.yaml")
    return frozenset(key for file in files for key in _read(file))


def restored(checkpoint: Mapping[str, Any]) -> Config:
    """Return the configuration in a checkpoint, on a device that this process has, with its data found again.

    Parameters
    ----------
    checkpoint
        What `load_checkpoint` returned.

    Raises
    ------
    ConfigError
        If the model's name is another plugin's by now, or the configuration does not do here.
    """
    config = Config.from_dict(checkpoint["config"])
    if config.plugin != checkpoint["plugin"]:
        raise ConfigError(
            f"The checkpoint is of the model {checkpoint['model']} of plugin {checkpoint['plugin']!r}, and here the "
            f"name is of plugin {config.plugin!r}."
        )
    return config


def _written(key: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {name: _written(key, each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(key, each) for each in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(
        f"{key} must be made of numbers, text, lists and mappings, so that it can be written down; got {value!r:.80}."
    )
