"""Who may import whom, read from the source; and that each side works where the other library is not installed."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cvr_plugins

PACKAGE = Path(cvr_plugins.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {"files", "nearest", "scaffold", "contracts", "functional", "transport", "metrics"},
    {"hookspecs", "objectives", "architectures", "weightings", "sequential", "model", "data", "propensities"},
    {"methods", "builtin"},
    {"plugins", "assembly", "config", "logs", "training", "method_classes"},
    {"rechub", "recbole"},
    {"testing", "grid", "cli"},
)
"""Parts of the package, bottom first: each may import its own layer and those below, rechub and recbole not one
another."""

FRAMEWORKS = {"torch_rechub": "rechub", "recbole": "recbole"}
"""Library -> the one part that imports it."""


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Full names of all modules and objects a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def layer_of(part: str) -> int:
    (layer,) = [i for i, parts in enumerate(LAYERS) if part in parts] or [None]
    assert layer is not None, f"cvr_plugins.{part} has no place in LAYERS; give it one"
    return layer


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    part = part_of(path)
    if part == "__init__":
        return
    for name in imports(path):
        root, _, rest = name.partition(".")
        if root != "cvr_plugins" or not rest or rest in cvr_plugins.__all__:
            continue
        other = rest.split(".")[0]
        assert layer_of(other) <= layer_of(part), f"{part} imports {name}, which lies above it"
        assert {part, other} != {"rechub", "recbole"}, f"{part} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_its_own_side_imports_a_framework(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    for library, side in FRAMEWORKS.items():
        assert library not in roots or part_of(path) == side, f"{part_of(path)} imports {library}"


BLOCKED = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked)", name=name)

sys.meta_path.insert(0, Blocker())
for library in {blocked!r}:
    try:
        importlib.import_module(library)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{library}} is not blocked")
"""


def run_without(blocked: list[str], code: str) -> str:
    source = BLOCKED.format(blocked=blocked) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def modules_outside(*parts: str) -> list[str]:
    named = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in FILES if part_of(path) not in parts]
    return sorted({".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in named})


@pytest.mark.parametrize(
    ("blocked", "modules"),
    [
        (["torch_rechub", "recbole"], modules_outside("rechub", "recbole")),
        (["torch_rechub"], modules_outside("rechub")),
        (["recbole"], modules_outside("recbole")),
    ],
    ids=["both", "torch_rechub", "recbole"],
)
def test_everything_else_imports_where_a_framework_is_missing(blocked, modules):
    assert {"cvr_plugins.contracts", "cvr_plugins.model", "cvr_plugins.assembly", "cvr_plugins.metrics"} <= set(modules)
    run_without(blocked, f"for name in {modules!r}: importlib.import_module(name)")


def test_training_with_torch_rechub_needs_no_recbole():
    done = run_without(
        ["recbole"],
        """
        import numpy as np
        from torch_rechub.basic.features import SparseFeature
        from cvr_plugins.rechub import ESMM, CVRTrainer, TensorLoader

        rng = np.random.default_rng(0)
        click = rng.integers(0, 2, 200)
        loader = TensorLoader(
            {"user": rng.integers(0, 9, 200)}, {"click": click, "conversion": click * rng.integers(0, 2, 200)}
        )
        trainer = CVRTrainer(ESMM([SparseFeature("user", 9, embed_dim=4)]), n_epoch=2, model_path=None)
        print(len(trainer.fit(loader, loader).records))
        """,
    )
    assert done.split() == ["2"]


def test_importing_the_package_loads_no_library():
    run_without(
        ["torch", "torch_rechub", "recbole", "pandas"],
        """
        import cvr_plugins
        assert cvr_plugins.__version__
        assert "numpy" not in sys.modules
        """,
    )
