"""KuaiRand-Pure: tiny files of the published layout, joined and split as documented."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import DataError, split
from cvr_plugins.data.published import kuairand_pure, kuairand_pure_random

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    f"register_days_range,{','.join(f'onehot_feat{i}' for i in range(18))}"
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag"
)
LOG_COLUMNS, USER_COLUMNS, VIDEO_COLUMNS = (header.split(",") for header in (LOG, USERS, VIDEOS))


def log_rows(*rows) -> pd.DataFrame:
    """(user, video, click, like, long view, time) each; everything else is 0."""
    frame = pd.DataFrame(0, index=range(len(rows)), columns=LOG_COLUMNS)
    for i, name in enumerate(("user_id", "video_id", "is_click", "is_like", "long_view", "time_ms")):
        frame[name] = [row[i] for row in rows]
    return frame


@pytest.fixture
def folder(tmp_path):
    """The published files, in the folder `data` of the archive."""
    data = tmp_path / "data"
    data.mkdir()
    logs = {
        "standard_4_08_to_4_21": [(1, 10, 1, 1, 1, 100), (1, 11, 1, 0, 0, 200), (2, 10, 0, 1, 0, 300)],
        "standard_4_22_to_5_08": [(2, 12, 1, 0, 1, 400), (3, 99, 0, 0, 0, 500)],
        "random_4_22_to_5_08": [(1, 12, 1, 1, 1, 600), (2, 11, 0, 0, 0, 700)],
    }
    for name, rows in logs.items():
        log_rows(*rows).to_csv(data / f"log_{name}_pure.csv", index=False)
    users = pd.DataFrame("x", index=range(3), columns=USER_COLUMNS)
    users["user_id"] = [1, 2, 3]
    users["user_active_degree"] = ["high_active", "full_active", "UNKNOWN"]
    for name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days"):
        users[name] = [0, 9, 99]
    users.to_csv(data / "user_features_pure.csv", index=False)
    videos = pd.DataFrame("y", index=range(3), columns=VIDEO_COLUMNS)
    videos["video_id"] = [12, 10, 11]
    videos["video_duration"] = [1000.0, None, 3000.0]
    videos["tag"] = ["39,13", "", "8"]
    videos.to_csv(data / "video_features_basic_pure.csv", index=False)
    return tmp_path


def test_standard_logs_by_hand(folder):
    log = kuairand_pure(path=folder)
    frame = log.frame
    assert frame["user_id"].astype(str).tolist() == ["1", "1", "2", "2", "3"]
    assert frame["video_id"].astype(str).tolist() == ["10", "11", "10", "12", "99"]
    assert frame["is_click"].tolist() == [1, 1, 0, 1, 0]
    assert frame["is_like"].tolist() == [1, 0, 0, 0, 0]
    assert frame["long_view"].tolist() == [1, 0, 0, 1, 0]
    assert frame["time_ms"].tolist() == [100, 200, 300, 400, 500]
    degree = frame["user_active_degree"].astype(str).tolist()
    assert degree == ["high_active", "high_active", "full_active", "full_active", "UNKNOWN"]
    np.testing.assert_allclose(frame["fans_user_num"], np.log1p([0, 0, 9, 9, 99]))
    assert [list(tags) for tags in frame["tag"]] == [[], ["8"], [], ["39", "13"], []]
    np.testing.assert_allclose(frame["video_duration"], np.log1p([0, 3000, 0, 1000, 0]))
    assert frame["author_id"].isna().tolist() == [False, False, False, False, True], "a video without features"
    assert any("'is_like': 1 without a click in 1 row" in note for note in log.notes)
    assert any("'video_duration': missing in 3 rows; set to 0" in note for note in log.notes)


def test_there_are_41_features_beside_the_ids_and_no_label_among_them(folder):
    schema = kuairand_pure(path=folder).schema
    names = [feature.name for feature in schema.features]
    assert len(names) == 2 + 41
    assert set(names) == {*USER_COLUMNS, *VIDEO_COLUMNS}
    assert not set(names) & set(LOG_COLUMNS[2:])
    assert {f.name: f.side for f in schema.features}["onehot_feat17"] == "user"
    assert {f.name: f.kind for f in schema.features}["tag"] == "token_seq"


def test_the_random_log_is_the_test_part(folder):
    log = kuairand_pure_random(path=folder / "data")
    assert log.frame["part"].astype(str).tolist() == ["train"] * 5 + ["test"] * 2
    train, valid, test = split(log, 0.2, by="time")
    assert valid.frame["time_ms"].tolist() == [500]
    assert test.frame["time_ms"].tolist() == [600, 700]
    assert len(train) == 4
    assert kuairand_pure(path=folder).schema.part is None


def test_repeated_keys_and_files_of_which_one_is_missing_are_refused(folder):
    users = folder / "data" / "user_features_pure.csv"
    users.write_text(users.read_text() + users.read_text().splitlines()[1] + "\n")
    with pytest.raises(DataError, match="repeats a 'user_id'"):
        kuairand_pure(path=folder)
    users.unlink()
    with pytest.raises(DataError, match="does not hold the files of KuaiRand-Pure: 'log_standard"):
        kuairand_pure(path=folder)
