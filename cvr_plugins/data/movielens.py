"""`ml-100k-funnel`: MovieLens-100k with real preferences and a simulated selection of clicks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.optimize import brentq
from scipy.special import expit

from cvr_plugins.data.atomic import AtomicFile
from cvr_plugins.data.errors import DataError, rows
from cvr_plugins.data.finding import find_files
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Schema
from cvr_plugins.data.source import Source
from cvr_plugins.data.tables import read_frame

NAME = "ml-100k-funnel"
CLICK_RATE = 0.15
SCHEMA = Schema(
    user="user_id",
    item="item_id",
    click="click",
    conversion="conversion",
    action="action",
    timestamp="timestamp",
    counterfactual="counterfactual_conversion",
    propensity="propensity",
    features=(
        Feature("age", "token", "user"),
        Feature("gender", "token", "user"),
        Feature("occupation", "token", "user"),
        Feature("release_year", "token", "item"),
        Feature("genres", "token_seq", "item"),
    ),
)

_RATINGS = ("user_id", "item_id", "rating", "timestamp")
_USERS = ("user_id", "age", "gender", "occupation")
_TYPES = {"rating": pa.float64(), "timestamp": pa.float64()}
"""Column -> type; all others are text."""

_RECBOLE = {"ml-100k.inter": _RATINGS, "ml-100k.user": _USERS, "ml-100k.item": ("item_id", "release_year", "class")}
"""File -> the fields wanted of it."""

# The genre flags of u.item in their order, as its u.genre lists them.
_GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
]
_GROUPLENS = {
    "u.data": ("\t", _RATINGS),
    "u.user": ("|", (*_USERS, "zip")),
    "u.item": ("|", ("item_id", "title", "released", "video_released", "url", *_GENRES)),
}
"""File -> what separates its columns, and their names."""


def ml_100k_funnel(*, path: str | Path | None = None, seed: int = 2024) -> FunnelLog:
    """Return the log in which every rating of MovieLens-100k is an exposure and only the clicks are simulated.

    - counterfactual conversion = (rating = 5), the real preference;
    - propensity = sigmoid(b + 0.8 (rating - mean) + 0.5 z(log item popularity) - 0.3 z(log user activity) + 0.5 noise),
      noise standard normal, z standardised over exposures, b such that the mean propensity is 0.15;
    - click ~ Bernoulli(propensity), conversion = click * counterfactual, action = click * (rating >= 4).

    The rating itself is not in the log: it is the label in disguise.

    Parameters
    ----------
    path
        A folder with `ml-100k.inter`, `.user` and `.item` (RecBole) or with `u.data`, `u.user` and `u.item`
        (GroupLens); None: the copy inside the installed recbole package.
    seed
        The same one gives the same log.

    Raises
    ------
    DataError
        If the files are not found or are not MovieLens.

    References
    ----------
    Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.
    """
    ratings = read_ratings(path, name=NAME)
    rating = ratings.pop("rating").to_numpy(dtype=np.float64)
    random = np.random.default_rng(seed)
    propensity = _propensity(rating, ratings["user_id"], ratings["item_id"], random.standard_normal(len(rating)))
    click = random.random(len(rating)) < propensity
    likes = rating == 5
    # In the title of two films the place of the year is taken by something else.
    year = ratings["release_year"].astype(str)
    frame = ratings.assign(
        release_year=year.where(year.str.fullmatch(r"\d{4}"), ""),
        click=click.astype(np.int8),
        conversion=(click & likes).astype(np.int8),
        action=(click & (rating >= 4)).astype(np.int8),
        counterfactual_conversion=likes.astype(np.int8),
        propensity=propensity,
    )
    return FunnelLog.from_frame(frame, SCHEMA, name=NAME)


def read_ratings(path: str | Path | None, *, name: str) -> pd.DataFrame:
    """Return the ratings with the columns of their users and items, in the order of the file.

    Parameters
    ----------
    path
        As for `ml_100k_funnel`.
    name
        The data set that needs them, for messages.

    Raises
    ------
    DataError
        If the files are not found or are not MovieLens.
    """
    folder = _folder(path, name)
    read = _read_recbole if (folder / "ml-100k.inter").is_file() else _read_grouplens
    ratings = _merge(*map(_plain, read(folder)), folder=folder)
    bad = int((~ratings["rating"].isin([1, 2, 3, 4, 5])).sum())
    if bad or ratings.empty:
        what = f"{rows(bad)} whose rating is not 1 to 5" if bad else "no rating"
        raise DataError(f"The MovieLens files in {str(folder)!r} hold {what}; use the original files.")
    return ratings


def _propensity(rating: np.ndarray, user: pd.Series, item: pd.Series, noise: np.ndarray) -> np.ndarray:
    """The true click probability [N] of each exposure."""
    items, users = (np.log(key.groupby(key).transform("size").to_numpy()) for key in (item, user))
    score = 0.8 * (rating - rating.mean()) + 0.5 * _z(items) - 0.3 * _z(users) + 0.5 * noise
    bias = brentq(lambda b: expit(b + score).mean() - CLICK_RATE, -50.0, 50.0, xtol=1e-12)
    return expit(bias + score)


def _z(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)


def _folder(path: str | Path | None, name: str) -> Path:
    if path is None:
        # The wheel's files are wanted, not the library: importing recbole costs seconds and needs torch.
        spec = importlib.util.find_spec("recbole")
        if spec is None or spec.origin is None:
            raise DataError(
                f"{name} needs the MovieLens-100k files, but recbole, which brings a copy, is not installed; pass "
                "data_path, a folder with ml-100k."
            )
        path = Path(spec.origin).parent / "dataset_example"
    return find_files(path, (tuple(_RECBOLE), tuple(_GROUPLENS)), name=name, within=("ml-100k",))[0].parent


def _read_recbole(folder: Path) -> Iterator[pd.DataFrame]:
    for name, fields in _RECBOLE.items():
        frame = AtomicFile.open(folder / name).read(fields, {field: _TYPES.get(field, pa.string()) for field in fields})
        yield frame.rename(columns={"class": "genres"})


def _read_grouplens(folder: Path) -> Iterator[pd.DataFrame]:
    for name, (delimiter, columns) in _GROUPLENS.items():
        source = Source(folder / name, delimiter, "latin-1", quoting=False, names=columns)
        frame = read_frame(source, columns, {column: _TYPES.get(column, pa.string()) for column in columns})
        if "title" in columns:
            genres = np.array(_GENRES, dtype=object)
            frame = frame[["item_id"]].assign(
                release_year=frame["title"].str.extract(r"\((\d{4})\)\s*$", expand=False).fillna(""),
                genres=[" ".join(genres[row]) for row in (frame[_GENRES] == "1").to_numpy()],
            )
        yield frame.drop(columns="zip", errors="ignore")


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts as objects: files have different sets of categories, which do not merge."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("category"), object))


def _merge(ratings: pd.DataFrame, user: pd.DataFrame, item: pd.DataFrame, *, folder: Path) -> pd.DataFrame:
    for table, key in ((user, "user_id"), (item, "item_id")):
        if table[key].duplicated().any() or not ratings[key].isin(table[key]).all():
            raise DataError(
                f"The MovieLens files in {str(folder)!r} do not fit together: the {key} of every rating must have "
                "exactly one row in the file of its side; use the original files."
            )
    return ratings.merge(user, on="user_id", how="left").merge(item, on="item_id", how="left")
