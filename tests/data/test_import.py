"""The package costs nothing to import and loads neither framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cvr_plugins.data as data


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_no_library_and_using_every_name_no_framework():
    frameworks = {"torch", "recbole", "torch_rechub"}
    loaded = _modules_after("import cvr_plugins.data")
    assert not (frameworks | {"pandas", "numpy", "pyarrow", "scipy"}) & loaded
    loaded = _modules_after("import cvr_plugins.data as d\n[getattr(d, n) for n in d.__all__]\nd.ml_100k_funnel")
    assert "pandas" in loaded
    assert not frameworks & loaded


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
