"""Browsing sessions as a RecBole data set: one row per session, their purchases kept apart from training."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole.sequential.events import EventLog, Sessions
from cvr_plugins.recbole.sequential.reading import read_events, read_header

ROW, START, STOP = "session_row", "session_start", "session_stop"
AUGMENTATIONS = ("sessions", "prefixes")


class SessionDataset(SequentialDataset):
    """Sessions, each with all its events, in RecBole's format: one `.inter` row per browse event.

    A session is what USER_ID_FIELD names, its events are in order of TIME_FIELD (in full precision; events of the same
    time in the order of the file). A row of the data set is a session and not, as in RecBole's SequentialDataset, one
    of its prefixes: memory goes with the number of events and not with that times MAX_ITEM_LIST_LENGTH. Sessions of one
    event are dropped, as RecBole's augmentation drops them: there is nothing to predict.

    Splits (`eval_args`), always in order of time: `split: {RS: [0.8, 0.1, 0.1]}, group_by: none` divides sessions by
    the time of their last event; `split: {LS: valid_and_test}` holds out the last events of every session, the same
    targets as with RecBole's own sequential models. Rows of the training part are the sessions; in the other parts the
    item list ends before the last event, which is the item to predict.

    Parameters
    ----------
    config
        RecBole's, with two keys of ours.

        augmentation: "sessions" trains on a session's last MAX_ITEM_LIST_LENGTH events, one row per session; "prefixes"
        on every prefix of two events or more, a row for each, as RecBole's own sequential models do.

        PURCHASE_FIELD: column that is 1 for events of a bought item, 0 otherwise; the file need not have it. It is in
        no `Interaction`, and so in no batch; `sessions()` hands it to evaluation. Columns other than those of session,
        item, time and purchase play no part.

    Raises
    ------
    ConfigError
        For keys that it does not go with, and columns that are missing or hold something else.
    """

    log: EventLog
    inter_feat: Any
    session_rows: Interaction

    def __init__(self, config: Config) -> None:
        if config["benchmark_filename"] is not None:
            raise ConfigError(
                f"{config['model']} splits sessions itself: benchmark_filename cannot be used; set split in eval_args."
            )
        if config["augmentation"] not in (None, *AUGMENTATIONS):
            raise ConfigError(f"augmentation must be 'sessions' or 'prefixes'; got {config['augmentation']!r}.")
        self.purchase_field = config["PURCHASE_FIELD"]
        super().__init__(config)

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:
        separator, encoding = self.config["field_separator"], self.config["encoding"] or "utf-8"
        if source != FeatureSource.INTERACTION or len(separator) > 1:
            return super()._load_feat(filepath, source)
        wanted, unwanted = self._get_load_and_unload_col(source)
        fields = read_header(filepath, separator, encoding)
        kept = {
            name: kind
            for name, kind in fields.items()
            if (wanted is None or name in wanted) and name not in (unwanted or ())
        }
        if not kept or any(kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ) for kind in kept.values()):
            return super()._load_feat(filepath, source)
        for name, kind in kept.items():
            self.set_field_property(name, kind, source, 1)
            if kind == FeatureType.FLOAT:
                self.field2bucketnum[name] = 2
        return read_events(filepath, kept, separator, encoding)

    def _change_feat_format(self) -> None:
        self._check_columns()
        used = [self.uid_field, self.iid_field, self.time_field]
        if self.purchase_field in self.inter_feat:
            used.append(self.purchase_field)
        frame = self.inter_feat[used]
        # RecBole's tensors hold a time in float32, where seconds of today are 128 s apart.
        order = np.lexsort((frame[self.time_field].to_numpy(), frame[self.uid_field].to_numpy()))
        self.inter_feat = frame.iloc[order]
        self._times = torch.from_numpy(self.inter_feat[self.time_field].to_numpy(dtype=np.float64))
        super()._change_feat_format()
        del self._times

    def data_augmentation(self) -> None:
        """Make sessions of the events, one row each; called by RecBole when the data set is built."""
        events = self.inter_feat
        session = events[self.uid_field]
        first = torch.ones_like(session, dtype=torch.bool)
        first[1:] = session[1:] != session[:-1]
        start = first.nonzero()[:, 0]
        stop = torch.cat([start[1:], start.new_tensor([len(session)])])
        purchased = events[self.purchase_field] > 0 if self.purchase_field in events else None
        self.log = EventLog(events[self.iid_field].to(torch.int32), purchased)
        several = stop - start > 1
        if not several.any():
            raise ConfigError(f"No session of {self.dataset_name} has two events; there is nothing to predict.")
        if not several.all():
            self.logger.info(f"{int((~several).sum())} sessions of a single event are left out.")
        for name in (ROW, START, STOP, self.item_list_length_field):
            self.set_field_property(name, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.item_id_list_field = self.iid_field + self.config["LIST_SUFFIX"]
        self.set_field_property(
            self.item_id_list_field, FeatureType.TOKEN_SEQ, FeatureSource.INTERACTION, self.max_item_list_len
        )
        start, stop = start[several], stop[several]
        times = Interaction({self.time_field: self._times[stop - 1]})
        self.inter_feat = self._rows(session[start], start, stop)
        self.inter_feat.update(times)

    def build(self) -> list[SessionDataset]:
        """Return the training, validation and test parts."""
        parts: list[SessionDataset] = super().build()
        return parts

    def split_by_ratio(self, ratios: list[float], group_by: str | None = None) -> list[SessionDataset]:
        """Divide the sessions, in their present order, by ratios.

        Raises ConfigError if a group is given, or not three ratios.
        """
        if group_by is not None:
            raise ConfigError(
                f"{self.config['model']} divides sessions, not the events of each: with split RS set group_by: none in "
                "eval_args, or hold out the last events of each session by split: {LS: valid_and_test}."
            )
        if len(ratios) != 3:
            raise ConfigError(f"split RS needs the ratios of training, validation and test; got {ratios}.")
        training, *others = super().split_by_ratio(ratios)
        return [training._as_training(), *(other._as_evaluation() for other in others)]

    def leave_one_out(self, group_by: str | None, leave_one_mode: str) -> list[SessionDataset]:
        """Hold out the last events of each session that has enough of them, one for each part but the training.

        The first two events of a session are always trained on. Targets are those of RecBole's `leave_one_out`.
        """
        modes = {"valid_and_test": (True, True), "valid_only": (True, False), "test_only": (False, True)}
        if leave_one_mode not in modes:
            raise ConfigError(f"split LS must be one of {', '.join(modes)}; got {leave_one_mode!r}.")
        self._drop_unused_col()
        valid, test = modes[leave_one_mode]
        rows = self.inter_feat
        held = (rows[STOP] - rows[START] - 2).clamp(max=valid + test)
        # A session with one event to hold out gives it to the test part, if there is one.
        everything, none = held >= 0, held < 0
        training = self._part(everything, held)._as_training()
        validation = self._part(held > int(test) if valid else none, int(test))._as_evaluation()
        return [training, validation, self._part(held > 0 if test else none, 0)._as_evaluation()]

    def time_based_split(self, ratios: list[float], group_by: str | None) -> list[SessionDataset]:
        """Refused: RecBole divides the events of a session by it."""
        raise ConfigError(f"{self.config['model']} knows the splits RS and LS, not TS; set split in eval_args.")

    def sessions(self) -> Sessions:
        """Return the sessions of this part: the last MAX_ITEM_LIST_LENGTH events, the one to predict included."""
        rows = self.session_rows
        start = torch.maximum(rows[START], rows[STOP] - self.max_item_list_len)
        return self.log.sessions(rows[self.uid_field], start, rows[STOP])

    def session_interaction(self, rows: slice | Tensor) -> Interaction:
        """Return whole sessions, `rows` of `sessions()`: what is scored when nothing is held out."""
        return self._with_lists(self.session_rows[rows])

    def history(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return all items before the one to predict, however long ago, of rows `[B]` of this part.

        rows: as the field `session_row` of an Interaction has them. As two arrays: a place in `rows`, and an item.
        """
        found = self.session_rows[rows]
        ptr, place = self.log.ragged(found[START], found[STOP] - 1)
        return torch.arange(len(rows)).repeat_interleave(ptr.diff()), self.log.item[place].long()

    @property
    def item_counter(self) -> Counter[int]:
        """How often each item occurs in the sessions of this part."""
        _, place = self.log.ragged(self.session_rows[START], self.session_rows[STOP])
        counts = torch.bincount(self.log.item[place], minlength=self.item_num)
        return Counter({item: int(counts[item]) for item in counts.nonzero()[:, 0].tolist()})

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        if isinstance(index, str):
            return super().__getitem__(index, join=False)
        found = self._with_lists(self.inter_feat[index])
        return self.join(found) if join else found

    def _rows(self, session: Tensor, start: Tensor, stop: Tensor) -> Interaction:
        return Interaction(
            {
                self.uid_field: session,
                self.iid_field: self.log.item[stop - 1].long(),
                self.item_list_length_field: (stop - start).clamp(max=self.max_item_list_len),
                ROW: torch.arange(len(session)),
                START: start,
                STOP: stop,
            }
        )

    def _part(self, chosen: Tensor, held: Tensor | int) -> SessionDataset:
        """The chosen sessions without the last `held` events of each."""
        rows = self.inter_feat[chosen.nonzero()[:, 0]]
        rows[STOP] = rows[STOP] - held
        part: SessionDataset = self.copy(rows)
        return part

    def _as_training(self) -> SessionDataset:
        rows = self.inter_feat
        self.session_rows = self._rows(rows[self.uid_field], rows[START], rows[STOP])
        self.inter_feat = self._rows(rows[self.uid_field], rows[START], rows[STOP])
        if self.config["augmentation"] == "prefixes":
            # Prefixes of two events or more, those of a session one after the other.
            count = rows[STOP] - rows[START] - 1
            row = torch.arange(len(count)).repeat_interleave(count)
            within = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
            start = rows[START][row]
            self.inter_feat = self._rows(rows[self.uid_field][row], start, start + within + 2)
            self.inter_feat[ROW] = row
        return self

    def _as_evaluation(self) -> SessionDataset:
        rows = self.inter_feat
        self.session_rows = self._rows(rows[self.uid_field], rows[START], rows[STOP])
        self.inter_feat = self._rows(rows[self.uid_field], rows[START], rows[STOP] - 1)
        self.inter_feat[self.iid_field] = self.session_rows[self.iid_field]
        return self

    def _with_lists(self, rows: Interaction) -> Interaction:
        kept = {name: rows[name] for name in rows if name not in (START, STOP)}
        start, stop = rows[START], rows[STOP]
        lists = self.log.padded(start.reshape(-1), stop.reshape(-1), self.max_item_list_len)
        return Interaction({**kept, self.item_id_list_field: lists.reshape(*start.shape, -1)})

    def _check_columns(self) -> None:
        for key, name in (
            ("USER_ID_FIELD", self.uid_field),
            ("ITEM_ID_FIELD", self.iid_field),
            ("TIME_FIELD", self.time_field),
        ):
            if name is None or name not in self.inter_feat:
                raise ConfigError(
                    f"{self.config['model']} needs the column {name!r} ({key}) of {self.dataset_name}.inter, which is "
                    "not loaded; name it in load_col, or set the key."
                )
        if self.field2type[self.time_field] != FeatureType.FLOAT:
            raise ConfigError(f"Column {self.time_field!r} (TIME_FIELD) of {self.dataset_name}.inter must be float.")
        if self.purchase_field in self.inter_feat:
            if self.field2type[self.purchase_field] != FeatureType.FLOAT:
                raise ConfigError(
                    f"Column {self.purchase_field!r} (PURCHASE_FIELD) of {self.dataset_name}.inter must be float."
                )
            value = self.inter_feat[self.purchase_field]
            if not value.isin([0, 1]).all():
                wrong = value[~value.isin([0, 1])].iloc[0]
                raise ConfigError(
                    f"Column {self.purchase_field!r} (PURCHASE_FIELD) of {self.dataset_name}.inter must be 1 or 0 "
                    f"in every row; found {wrong!r}. (RecBole fills what is missing by the mean.)"
                )
