"""Yahoo! R3: ratings of songs that people chose to rate, and of songs that they were given at random."""

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

FILES = ("ydata-ymusic-rating-study-v1_0-train.txt", "ydata-ymusic-rating-study-v1_0-test.txt")
_TYPES = {"user": pa.string(), "song": pa.string(), "rating": pa.float64()}


def yahoo_r3(
    *, path: str | Path | None = None, threshold: float = 3, overlap: bool = True, unrated: float = 1.0, seed: int = 0
) -> FunnelLog:
    """Return Yahoo! R3, music ratings for user-selected and randomly selected songs; the random ones are the test part.

    All pairs of a user and a song that occur are training rows (15,400 x 1,000 in the published files), the rated ones
    clicked. There is no validation part: `eval_args: {split: {PS: 0.1}}` takes a tenth of the training rows, which are
    biased.

    Parameters
    ----------
    path
        The folder of the two published text files, lines of user, song and rating with tabs between.
    threshold
        The least rating that is a conversion.
    overlap
        False leaves out test ratings of pairs that are rated in training, too.
    unrated
        The share of the unrated pairs that become rows.
    seed
        Of the draw of these.

    Raises
    ------
    DataError
        If the files are not found or cannot be read, hold a rating outside 1 to 5 or a pair twice.

    Notes
    -----
    The files are licensed to each user by Yahoo! Webscope and may not be passed on.

    References
    ----------
    Marlin and Zemel, Collaborative Prediction and Ranking with Non-random Missing Data, RecSys 2009.
    """
    files = find_files(path, [FILES], name="Yahoo! R3")
    rated = Rated.of(*(_read(file) for file in files))
    return ratings_log(rated, threshold=threshold, overlap=overlap, unrated=unrated, seed=seed, name="yahoo-r3")


def _read(file: Path) -> pd.DataFrame:
    frame = read_frame(Source(file, "\t", quoting=False, names=tuple(_TYPES)), list(_TYPES), _TYPES)
    wrong = int((~frame["rating"].between(1, 5)).sum())
    if wrong:
        raise DataError(
            f"File {str(file)!r}: {wrong:,} of {len(frame):,} ratings are not from 1 to 5; use the original."
        )
    twice = int(frame.duplicated(["user", "song"]).sum())
    if twice:
        raise DataError(f"File {str(file)!r} rates {twice:,} pairs more than once; use the original.")
    return frame
