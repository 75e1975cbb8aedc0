"""The embedded data set: real preferences, simulated clicks, truth that is never a feature."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import DataError, FunnelLog, ml_100k_funnel


@pytest.fixture(scope="module")
def funnel() -> FunnelLog:
    if importlib.util.find_spec("recbole") is None:
        pytest.skip("recbole is not installed")
    return ml_100k_funnel()


@pytest.fixture
def ratings() -> pd.DataFrame:
    """The original ratings, in the order of the file."""
    spec = importlib.util.find_spec("recbole")
    folder = Path(spec.submodule_search_locations[0]) / "dataset_example" / "ml-100k"
    return pd.read_csv(folder / "ml-100k.inter", sep="\t").rename(columns=lambda name: name.split(":")[0])


def _digest(log: FunnelLog) -> str:
    plain = log.frame.assign(genres=[" ".join(words) for words in log.frame["genres"]])
    return hashlib.sha256(pd.util.hash_pandas_object(plain).to_numpy().tobytes()).hexdigest()


def test_size_and_rates(funnel: FunnelLog):
    summary = funnel.summary()
    assert (summary["rows"], summary["users"], summary["items"]) == (100_000, 943, 1682)
    assert summary["oracle_conversion_rate"] == 0.21201
    # Three standard errors of 100,000 Bernoulli draws at .15.
    assert abs(summary["click_rate"] - 0.15) < 3 * np.sqrt(0.15 * 0.85 / 100_000)
    assert funnel.frame["propensity"].mean() == pytest.approx(0.15, abs=1e-9)
    assert summary["click_conversion_rate"] > 1.5 * summary["oracle_conversion_rate"], "clicks select for conversion"


def test_inverse_propensity_with_the_truth_recovers_the_oracle_rate(funnel: FunnelLog):
    weighted = (funnel.frame["conversion"] / funnel.frame["propensity"]).to_numpy()
    standard_error = weighted.std() / np.sqrt(len(funnel))
    assert abs(weighted.mean() - 0.21201) < 3 * standard_error < 0.03


def test_labels_follow_from_the_rating(funnel: FunnelLog, ratings: pd.DataFrame):
    frame = funnel.frame
    assert frame["user_id"].astype(int).tolist() == ratings["user_id"].tolist()
    assert frame["item_id"].astype(int).tolist() == ratings["item_id"].tolist()
    assert frame["timestamp"].tolist() == ratings["timestamp"].tolist()
    click, rating = frame["click"].to_numpy(), ratings["rating"].to_numpy()
    assert frame["counterfactual_conversion"].tolist() == (rating == 5).astype(int).tolist()
    assert frame["conversion"].tolist() == (click * (rating == 5)).tolist()
    assert frame["action"].tolist() == (click * (rating >= 4)).tolist()


def test_propensities_follow_the_formula(funnel: FunnelLog, ratings: pd.DataFrame):
    logit = np.log(funnel.frame["propensity"] / (1 - funnel.frame["propensity"]))
    z = lambda values: (values - values.mean()) / values.std(ddof=0)  # noqa: E731
    items = np.log(ratings.groupby("item_id")["rating"].transform("size"))
    users = np.log(ratings.groupby("user_id")["rating"].transform("size"))
    rest = logit - 0.8 * (ratings["rating"] - ratings["rating"].mean()) - 0.5 * z(items) + 0.3 * z(users)
    # What is left is b + 0.5 noise: normal with deviation 0.5, independent of everything above.
    noise = (rest - rest.mean()) / 0.5
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert abs((noise**3).mean()) < 0.03
    for column in (ratings["rating"], items, users):
        assert abs(np.corrcoef(noise, column)[0, 1]) < 0.01


def test_another_seed_gives_other_clicks_on_the_same_truth(funnel: FunnelLog):
    other = ml_100k_funnel(seed=1)
    assert _digest(other) != _digest(funnel)
    assert other.frame["counterfactual_conversion"].equals(funnel.frame["counterfactual_conversion"])


def test_years_are_years_or_missing_and_genres_sequences(funnel: FunnelLog):
    years = funnel.frame["release_year"]
    assert years.isna().sum() == 15
    assert years.dropna().astype(str).str.fullmatch(r"19\d\d").all()
    assert "15 rows" in funnel.notes[0]
    assert "rating" not in funnel.frame
    genres = funnel.frame.drop_duplicates("item_id").set_index("item_id")["genres"]
    assert list(genres["2"]) == ["Action", "Adventure", "Thriller"]
    assert len({word for words in genres for word in words}) == 19


def _grouplens(folder: Path, ratings: str = "1\t10\t5\t100\n2\t20\t3\t200\n1\t20\t4\t300\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "u.data").write_text(ratings)
    (folder / "u.user").write_text("1|24|M|writer|85711\n2|53|F|other|94043\n")
    none = "|".join("0" * 19)
    flags = none.split("|")
    flags[3] = flags[4] = "1"
    items = f'10|Café "Story" (1995)|01-Jan-1996||http://x|{"|".join(flags)}\n20|Nothing||||1{none[1:]}\n'
    (folder / "u.item").write_bytes(items.encode("latin-1"))
    return folder


def _recbole(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t5\t100\n2\t20\t3\t200\n1\t20\t4\t300\n"
    )
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t8\n2\t53\tF\tother\t9\n"
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        '10\tCafé "Story"\t1995\tAnimation Children\'s\n20\tNothing\tV\tunknown\n'
    )
    return folder


def test_the_layouts_of_grouplens_and_of_recbole_give_the_same_log(tmp_path: Path):
    _recbole(tmp_path / "ml-100k")
    logs = [ml_100k_funnel(path=path) for path in (_grouplens(tmp_path / "a"), str(tmp_path / "ml-100k"), tmp_path)]
    assert len({_digest(log) for log in logs}) == 1
    frame = logs[0].frame
    assert [list(words) for words in frame["genres"]] == [["Animation", "Children's"], ["unknown"], ["unknown"]]
    assert frame["release_year"].astype(object).tolist()[0] == "1995"
    assert frame["release_year"].isna().tolist() == [False, True, True]
    assert frame["counterfactual_conversion"].tolist() == [1, 0, 0]
    assert frame["propensity"].mean() == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ("1\t10\t5\t100\n9\t10\t5\t100\n", "the user_id of every rating must have exactly one row"),
        ("1\t10\t5\t100\n1\t99\t5\t100\n", "the item_id of every rating must have exactly one row"),
        ("1\t10\t7\t100\n", "1 row whose rating is not 1 to 5"),
        ("", "u.data' cannot be read: Empty CSV file"),
    ],
)
def test_files_that_are_not_movielens_are_refused(ratings: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        ml_100k_funnel(path=_grouplens(tmp_path / "a", ratings))


def test_missing_files_are_explained(tmp_path: Path, monkeypatch):
    with pytest.raises(DataError, match=r"does not hold the files of ml-100k-funnel: 'ml-100k.inter'.*Set data_path"):
        ml_100k_funnel(path=tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"recbole.*is not installed; pass data_path"):
        ml_100k_funnel()
