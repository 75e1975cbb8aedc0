"""A RecBole data set of labelled exposures: labels checked and kept apart from the features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from cvr_plugins.config import ConfigError
from cvr_plugins.data import DataError, Schema, checks
from cvr_plugins.recbole.context.fields import LISTS, ROLES, label_fields, names_of, schema_of


class MethodDataset(Dataset):
    """RecBole's Dataset whose label, truth and timestamp fields are known as such and checked before all else.

    A discretised float (`discretization`) becomes a bucket with an embedding; all other floats stay numbers.

    Attributes
    ----------
    schema
        Which field plays which part.
    notes
        What the checks changed (conversions without a click, say, which are set to 0).
    keys
        Those that say which field plays which part.

    Raises
    ------
    ConfigError
        For keys that would change what a label means.
    DataError
        For labels that are not 0 and 1.
    """

    schema: Schema
    notes: tuple[str, ...]
    keys: dict[str, Any]

    def _load_data(self, token: str, dataset_path: str) -> None:
        _refuse(self.config)
        super()._load_data(token, dataset_path)
        self.keys = role_keys(self.config)
        self.schema = schema_of(self.config, self.field2type, self.field2source, self.dataset_name)
        self.notes = self._clean_labels()
        for note in self.notes:
            self.logger.warning(f"{self.dataset_name}: {note}")

    def _clean_labels(self) -> tuple[str, ...]:
        clean, notes = checks.clean_labels(self.inter_feat, self.schema, f"Data set {self.dataset_name!r}")
        for name, values in clean.items():
            # Whatever its type in the file: a label is a number, not a token that gets an id.
            self.inter_feat[name] = values.astype(np.float64)
            self.set_field_property(name, FeatureType.FLOAT, self.field2source[name], 1)
            self.field2bucketnum[name] = 2
        return notes

    def _normalize(self) -> None:
        """Normalise features only: a label scaled to its range is another label."""
        config = self.config
        chosen, everything = config["normalize_field"], config["normalize_all"]
        if everything and not chosen:
            numbers = self._numbers()
            config["normalize_field"], config["normalize_all"] = numbers, None
        try:
            if config["normalize_field"] or config["normalize_all"]:
                super()._normalize()
        finally:
            config["normalize_field"], config["normalize_all"] = chosen, everything

    def _discretization(self) -> None:
        """Make buckets of what `discretization` names; RecBole makes pairs of all `numerical_features`."""
        config = self.config
        chosen, numerical = config["discretization"], config["numerical_features"]
        for name in chosen or {}:
            if self.field2type.get(name) is FeatureType.FLOAT_SEQ:
                raise ConfigError(f"discretization names {name!r}, a float_seq; only single floats can be discretised.")
        config["numerical_features"] = list(chosen or {})
        try:
            super()._discretization()
        finally:
            config["numerical_features"] = numerical

    def build(self) -> list[Any]:
        """Return the training, validation and test part, as RecBole does, or as published with `split: {PS: valid}`.

        Raises
        ------
        ConfigError
            For an order that RecBole does not have.
        DataError
            If a published part is empty or unknown.
        """
        args = self.config["eval_args"]
        if args["order"] not in ("RO", "TO"):
            raise ConfigError(f"eval_args.order must be RO (random) or TO (by time) in RecBole; got {args['order']!r}.")
        if "PS" in args["split"]:
            return self._published(args["split"]["PS"], by_time=args["order"] == "TO")
        datasets: list[Any] = super().build()
        return datasets

    def _published(self, share: Any, *, by_time: bool) -> list[Any]:
        """Cut as the part field says; without validation rows a share of the training rows, drawn or the latest."""
        column, where = self.schema.part, f"Data set {self.dataset_name!r}"
        if column is None:
            raise ConfigError(f"{where} has no part field, which eval_args.split PS needs; name it with PART_FIELD.")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise ConfigError(
                "eval_args.split PS must be a share between 0 and 1, of the training rows for validation; got "
                f"{share!r}."
            )
        self._change_feat_format()
        if by_time:
            self.sort(by=self.time_field)
        else:
            self.shuffle()
        named = self.field2id_token[column][self.inter_feat[column].numpy()]
        strange = sorted(set(named) - set(checks.PARTS))
        if strange:
            known = ", ".join(checks.PARTS)
            raise DataError(f"{where}: part field {column!r} must be one of {known}; it holds {str(strange[0])!r}.")
        rows = {part: np.flatnonzero(named == part) for part in checks.PARTS}
        if not len(rows["valid"]):
            cut = round(len(rows["train"]) * (1 - share))
            rows["train"], rows["valid"] = rows["train"][:cut], rows["train"][cut:]
        empty = [part for part in checks.PARTS if not len(rows[part])]
        if empty:
            raise DataError(f"{where}: the published split leaves {', '.join(empty)} without a row.")
        self._drop_unused_col()
        return [self.copy(self.inter_feat[rows[part]]) for part in checks.PARTS]

    def _numbers(self) -> list[str]:
        features = {feature.name for feature in self.schema.features}
        return [name for name in self.float_like_fields if name in features]

    def label_frame(self) -> pd.DataFrame:
        """Return click, conversion, and what there is of action and counterfactual of this part's rows, as booleans."""
        return pd.DataFrame(
            {
                label: np.logical_or.reduce([np.asarray(self.inter_feat[name]) > 0 for name in names])
                for label, names in label_fields(self.schema).items()
            }
        )


def role_keys(config: Any) -> dict[str, Any]:
    """Return the keys that say which field plays which part, by which a stored data set is known to be the wanted."""
    return {key: config[key] for key in (*ROLES.values(), *LISTS)}


def _refuse(config: Any) -> None:
    if config["threshold"]:
        raise ConfigError(
            f"threshold ({config['threshold']!r}) makes one label out of a field; a CVR method needs clicks and "
            "conversions as 0/1 fields. Write them into the .inter file, name them with CLICK_FIELD and "
            "CONVERSION_FIELD, and leave threshold out."
        )
    labels = {name for key in ROLES.values() for name in names_of(config[key])}
    for key in ("normalize_field", "discretization", "numerical_features"):
        clash = [name for name in names_of(config[key]) if name in labels]
        if clash:
            raise ConfigError(f"{key} names {clash[0]!r}, which is a label and no feature; take it out.")
