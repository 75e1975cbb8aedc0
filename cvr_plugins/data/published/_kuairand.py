"""KuaiRand-Pure: recommended and randomly shown videos with clicks and likes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr_plugins.data.errors import rows
from cvr_plugins.data.finding import find_files
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Kind, Schema, Side
from cvr_plugins.data.source import Source
from cvr_plugins.data.tables import joined_to, read_frame

STANDARD = ("log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv")
RANDOM = "log_random_4_22_to_5_08_pure.csv"
USERS, VIDEOS = "user_features_pure.csv", "video_features_basic_pure.csv"

_USER_TOKENS = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
_USER_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_VIDEO_TOKENS = (
    "author_id",
    "video_type",
    "upload_dt",
    "upload_type",
    "visible_status",
    "server_width",
    "server_height",
    "music_id",
    "music_type",
)
_VIDEO_COUNTS = ("video_duration",)
_TAGS = "tag"
_IDS = ("user_id", "video_id")
_LABELS = ("is_click", "is_like", "long_view")


def _features(names: tuple[str, ...], kind: Kind, side: Side) -> list[Feature]:
    return [Feature(name, kind, side) for name in names]


_SCHEMA = {
    "user": "user_id",
    "item": "video_id",
    "click": "is_click",
    "conversion": "is_like",
    "action": "long_view",
    "timestamp": "time_ms",
    "features": (
        *_features(_USER_TOKENS, "token", "user"),
        *_features(_USER_COUNTS, "float", "user"),
        *_features(_VIDEO_TOKENS, "token", "item"),
        *_features((_TAGS,), "token_seq", "item"),
        *_features(_VIDEO_COUNTS, "float", "item"),
    ),
}


def kuairand_pure(*, path: str | Path | None = None) -> FunnelLog:
    """Return KuaiRand-Pure, the exposures that the recommender chose: click, like as conversion, long view as action.

    The two standard logs, one after the other, with all 30 columns of the user features and 11 of the basic video
    features beside the two ids. Tags are a sequence; counts (numbers of users, days, milliseconds) are
    `log(1 + count)`, 0 where missing; everything else is a token. Likes without a click, which occur, are masked, and a
    note counts them.

    Parameters
    ----------
    path
        The folder of the published CSV files, or one above its `data`.

    Raises
    ------
    DataError
        If the files are not found, cannot be read or fail a check.

    Notes
    -----
    The data are under CC BY-SA 4.0.

    References
    ----------
    Gao et al., KuaiRand, CIKM 2022.
    """
    return _log(path, STANDARD, "kuairand-pure")


def kuairand_pure_random(*, path: str | Path | None = None) -> FunnelLog:
    """Return KuaiRand-Pure with the randomly shown videos as the test part: trained on what was chosen.

    The column `part` has `train` for the standard logs and `test` for the random one, so that
    `eval_args: {split: {PS: 0.1}}` trains on the former and tests, without bias, on the latter. All other columns are
    those of `kuairand_pure`.

    Parameters
    ----------
    path
        As for `kuairand_pure`.

    Raises
    ------
    DataError
        If the files are not found, cannot be read or fail a check.
    """
    return _log(path, (*STANDARD, RANDOM), "kuairand-pure-random", part="part")


def _log(path: str | Path | None, logs: tuple[str, ...], name: str, *, part: str | None = None) -> FunnelLog:
    *files, users, videos = find_files(
        path, [(*logs, USERS, VIDEOS)], name="KuaiRand-Pure", within=("data", "KuaiRand-Pure/data")
    )
    # Two files have different tokens; as objects they are put together without a common set of categories.
    frames = [_read(file, _IDS, (*_LABELS, "time_ms")).astype(dict.fromkeys(_IDS, object)) for file in files]
    if part is not None:
        names = ["train" if file.name in STANDARD else "test" for file in files]
        frames = [frame.assign(**{part: name}) for frame, name in zip(frames, names, strict=True)]
    log = pd.concat(frames, ignore_index=True)
    columns: dict[str, object] = dict(log)
    notes: list[str] = []
    for file, key, tokens, counts in (
        (users, "user_id", _USER_TOKENS, _USER_COUNTS),
        (videos, "video_id", (*_VIDEO_TOKENS, _TAGS), _VIDEO_COUNTS),
    ):
        found, _ = joined_to(log[key], _read(file, (key, *tokens), counts), file)
        for count in counts:
            values = found[count]
            missing = np.isnan(values)
            if missing.any():
                notes.append(f"count column {count!r}: missing in {rows(int(missing.sum()))}; set to 0.")
            found[count] = np.log1p(np.where(missing, 0.0, np.maximum(values, 0.0)))
        columns.update(found)
    # Published as `39,13`.
    columns[_TAGS] = pd.Series(columns[_TAGS]).cat.rename_categories(lambda tags: tags.replace(",", " "))
    schema = Schema(**_SCHEMA, part=part)  # type: ignore[arg-type]
    return FunnelLog.from_frame(pd.DataFrame(columns, copy=False), schema, name=name, notes=notes)


def _read(file: Path, texts: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    types = {**dict.fromkeys(texts, pa.string()), **dict.fromkeys(numbers, pa.float64())}
    return read_frame(Source.open(file), list(types), types)
