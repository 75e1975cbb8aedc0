"""Coat: ratings of coats that people chose to rate, and of coats that they were shown at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvr_plugins.data.errors import DataError
from cvr_plugins.data.finding import find_files
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.published._ratings import Rated, Ratings, ratings_log
from cvr_plugins.data.schema import Feature
from cvr_plugins.wording import first_line

USERS, ITEMS, TRAIN_RATINGS, TEST_RATINGS = 290, 300, 6960, 4640
FOLDER = "user_item_features"
FILES = (
    "train.ascii",
    "test.ascii",
    f"{FOLDER}/user_features.ascii",
    f"{FOLDER}/user_features_map.txt",
    f"{FOLDER}/item_features.ascii",
    f"{FOLDER}/item_features_map.txt",
)


def coat(*, path: str | Path | None = None, threshold: float = 3, overlap: bool = True) -> FunnelLog:
    """Return Coat: 290 x 300 pairs, 6,960 of them rated by choice, and 4,640 ratings of coats drawn at random as test.

    All pairs are training rows, the rated ones clicked. The test part holds the random ratings, all of them clicked, so
    that its click space is an unbiased sample. Features: the four one-hot groups of each side, as tokens. There is no
    validation part: `eval_args: {split: {PS: 0.1}}` takes a tenth of the training rows, which are biased.

    Parameters
    ----------
    path
        The folder of `train.ascii`, `test.ascii` and `user_item_features`.
    threshold
        The least rating that is a conversion.
    overlap
        False leaves out the 366 test ratings whose pair was rated in training, too.

    Raises
    ------
    DataError
        If the files are not found or cannot be read, or do not hold what was published: 290 users, 300 items, 6,960 and
        4,640 ratings from 1 to 5, one feature of each group set.

    References
    ----------
    Schnabel et al., Recommendations as Treatments: Debiasing Learning and Evaluation, ICML 2016.
    """
    files = find_files(path, [FILES], name="Coat", within=("coat",))
    rated = Rated(
        _ratings(files[0], TRAIN_RATINGS),
        _ratings(files[1], TEST_RATINGS),
        users=[str(number) for number in range(USERS)],
        items=[str(number) for number in range(ITEMS)],
    )
    features = {**_one_hot(files[2], files[3], "user", USERS), **_one_hot(files[4], files[5], "item", ITEMS)}
    return ratings_log(rated, threshold=threshold, overlap=overlap, name="coat", features=features)


def _matrix(file: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        found = np.loadtxt(file, dtype=np.int64, ndmin=2)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise DataError(f"File {str(file)!r} cannot be read as whole numbers: {reason}. Use the original.") from error
    if found.shape != shape:
        raise DataError(
            f"File {str(file)!r} holds {found.shape[0]} x {found.shape[1]} numbers, and Coat's has {shape[0]} x "
            f"{shape[1]}; use the original."
        )
    return found


def _ratings(file: Path, count: int) -> Ratings:
    matrix = _matrix(file, (USERS, ITEMS))
    user, item = np.nonzero(matrix)
    value = matrix[user, item]
    if len(value) != count or value.min() < 1 or value.max() > 5:
        spread = f" from {value.min()} to {value.max()}" if len(value) else ""
        raise DataError(
            f"File {str(file)!r} holds {len(value):,} ratings{spread}, and Coat's has {count:,} from 1 to 5; use the "
            "original."
        )
    return Ratings(user, item, value.astype(np.float64))


def _one_hot(file: Path, names_file: Path, side: str, rows: int) -> dict[Feature, np.ndarray]:
    """Feature -> the token of each row, of one-hot columns named `group:token`."""
    try:
        names = [line.strip() for line in names_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"File {str(names_file)!r} cannot be read: {error}. Use the original.") from error
    matrix = _matrix(file, (rows, len(names)))
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(name.partition(":")[0], []).append(column)
    found: dict[Feature, np.ndarray] = {}
    for group, columns in groups.items():
        block = matrix[:, columns]
        wrong = int(((block.sum(axis=1) != 1) | (block.min(axis=1) < 0)).sum())
        if wrong:
            raise DataError(
                f"File {str(file)!r}: {wrong} of {rows} rows do not have exactly one {group!r} set; use the original."
            )
        tokens = np.array([names[column].partition(":")[2] for column in columns], dtype=object)
        # Both sides have a gender.
        found[Feature(f"{side}_{group}", "token", side)] = tokens[block.argmax(axis=1)]  # type: ignore[arg-type]
    return found
