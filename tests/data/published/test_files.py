"""What every loader of a published data set says where its files are not."""

from __future__ import annotations

import pytest

from cvr_plugins.data import DataError, published


@pytest.mark.parametrize("name", published.__all__)
def test_the_files_are_asked_for_by_name(name, tmp_path):
    builder = getattr(published, name)
    with pytest.raises(DataError, match=r"cannot be shipped: set data_path to the folder that holds '\S+"):
        builder()
    with pytest.raises(DataError, match=r"does not hold the files of .*Set data_path") as caught:
        builder(path=tmp_path)
    assert str(tmp_path) in str(caught.value)
