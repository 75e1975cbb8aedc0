"""The package costs nothing to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cvr_plugins.data as data


def test_importing_the_package_loads_no_library():
    script = "import sys, cvr_plugins.data\nprint(' '.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "recbole", "torch_rechub", "pandas", "numpy", "pyarrow", "scipy"} & set(done.stdout.split())


def test_every_public_name_resolves_and_is_listed():
    assert sorted(data.__all__) == data.__all__
    for name in data.__all__:
        assert getattr(data, name).__name__ == name
        assert name in dir(data)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = data.nothing


def test_no_public_name_is_that_of_a_module():
    # Importing the module would put it in the place of the thing.
    assert not set(data._HOME) & set(data._HOMES)
