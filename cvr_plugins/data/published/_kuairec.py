"""KuaiRec: watch ratios of videos that were recommended, and a matrix of users and videos that is almost full."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from cvr_plugins.data.errors import DataError
from cvr_plugins.data.finding import find_files
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.published._ratings import Rated, ratings_log
from cvr_plugins.data.source import Source
from cvr_plugins.data.tables import read_frame

FILES = ("big_matrix.csv", "small_matrix.csv")
_TYPES = {"user_id": pa.string(), "video_id": pa.string(), "watch_ratio": pa.float64()}


def kuairec(
    *, path: str | Path | None = None, threshold: float = 2, overlap: bool = True, unrated: float = 0.1, seed: int = 0
) -> FunnelLog:
    """Return KuaiRec: the big matrix, of what the recommender chose, for training, the small, almost full one as test.

    A pair of a user and a video that the big matrix holds is clicked, others are not. A pair watched several times is
    one row with its largest watch ratio (time watched over the video's length). There is no validation part:
    `eval_args: {split: {PS: 0.1}}` takes a tenth of the training rows, which are biased.

    Parameters
    ----------
    path
        The folder of `big_matrix.csv` and `small_matrix.csv`, or one above its `data`.
    threshold
        The least watch ratio that is a conversion.
    overlap
        False leaves out test pairs that the big matrix holds, too.
    unrated
        The share of the pairs that were not watched that become rows (all would be 64 million).
    seed
        Of the draw of these.

    Raises
    ------
    DataError
        If the files are not found or cannot be read, or a watch ratio is missing or negative.

    References
    ----------
    Gao et al., KuaiRec: A Fully-observed Dataset and Insights for Evaluating Recommender Systems, CIKM 2022.
    """
    files = find_files(path, [FILES], name="KuaiRec", within=("data", "KuaiRec 2.0/data"))
    notes: list[str] = []
    rated = Rated.of(*(_read(file, notes) for file in files))
    return ratings_log(
        rated, threshold=threshold, overlap=overlap, unrated=unrated, seed=seed, name="kuairec", notes=notes
    )


def _read(file: Path, notes: list[str]) -> pd.DataFrame:
    frame = read_frame(Source.open(file), list(_TYPES), _TYPES)
    wrong = int((~(frame["watch_ratio"] >= 0)).sum())
    if wrong or frame.empty:
        raise DataError(
            f"File {str(file)!r}: the watch ratio is missing or negative in {wrong:,} of {len(frame):,} rows."
        )
    best = frame.groupby(["user_id", "video_id"], observed=True, sort=False)["watch_ratio"].max().reset_index()
    if len(best) < len(frame):
        notes.append(f"{file.name}: {len(frame):,} views are {len(best):,} pairs; each keeps its largest watch ratio.")
    return best
