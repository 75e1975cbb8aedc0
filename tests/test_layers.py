"""Who may import whom, read from the source; and that each side works where the other library is not installed."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import cvr_plugins

PACKAGE = Path(cvr_plugins.__file__).parent

FLOORS = """
    wording  files  nearest  options  learners  functional  contracts  transport
    metrics  data  config  sequential  scaffold  encoder
    hookspecs  propensities  weightings
    plugins
    model  architectures
    objectives  methods  builtin  method_classes  assembly  logs
    training
    rechub
    recbole.compat
    recbole.evaluation  recbole.context  recbole.sequential
    recbole.models  recbole.names  recbole.running  recbole.hooks  recbole
    grid  testing
    cli
    __init__
"""
"""The package from the ground up: each part imports from the lines above its own and, within the line, from its left.

A part is a file or a folder; the longest name counts, so that `recbole` is what of that folder has no name of its own.
"""

LIBRARIES = {"torch_rechub": "rechub", "recbole": "recbole"}
"""Library -> the one side that imports it; neither side imports the other."""

BUILT_IN_PLUGINS = ("cvr_plugins.plugins._discovery", {"cvr_plugins.builtin", "cvr_plugins.recbole.hooks"})
"""The one exception: the module that lists our own plugins by name, to load them like anyone's, and those modules."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PARTS = FLOORS.split()


def part_of(module: str) -> str:
    """The part that a module belongs to; "" if it has no place."""
    name = module.removeprefix("cvr_plugins").removeprefix(".") or "__init__"
    return max((part for part in PARTS if f"{name}.".startswith(f"{part}.")), key=len, default="")


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name in it or "") of every import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def texts_in(tree: ast.AST, module: str) -> Iterator[str]:
    """Every text that may name a module.

    It counts as it stands, as `module:attribute`, and behind the beginning that an `import_module(f"...")` of the same
    file gives it, as in a table of names and the modules that they live in.
    """
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts, beginnings = set(), {""}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and node.values:
            first = node.values[0]
            beginnings.add(str(first.value) if isinstance(first, ast.Constant) else f"{module}.")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            texts.add(node.value.partition(":")[0])
    # Our own name by itself is that of the entry points' group too.
    texts.discard("cvr_plugins")
    return (beginning + text for beginning in beginnings for text in texts)


def imports(source: str, module: str) -> set[str]:
    """The modules of ours that a module imports or names, itself aside."""
    tree = ast.parse(source)
    statements = (f"{home}.{name}" if f"{home}.{name}" in MODULES else home for home, name in imported(tree))
    return {*statements, *texts_in(tree, module)} & set(MODULES) - {module}


GRAPH = {module: imports(path.read_text(encoding="utf-8"), module) for module, path in MODULES.items()}
GRAPH[BUILT_IN_PLUGINS[0]] -= BUILT_IN_PLUGINS[1]


def test_every_form_of_an_import_is_seen():
    source = '''
"""cvr_plugins.cli"""
from cvr_plugins.metrics import auc
HOMES = {"infer_schema": "infer", "other": ("cvr_plugins.grid:main",)}
if TYPE_CHECKING:
    import cvr_plugins.nearest as near
def late(name):
    from cvr_plugins.plugins import registry
    import_module("cvr_plugins.contracts")
    return import_module(f"{__name__}.{HOMES[name]}")
'''
    seen = imports(source, "cvr_plugins.data")
    assert {name.removeprefix("cvr_plugins.") for name in seen} == {
        "metrics",
        "data.infer",
        "grid",
        "nearest",
        "plugins",
        "contracts",
    }


def test_imports_point_downwards():
    homeless = [module for module in MODULES if not part_of(module)]
    assert not homeless, f"without a place in FLOORS: {homeless}"
    empty = set(PARTS) - {part_of(module) for module in MODULES}
    assert not empty, f"named in FLOORS, and no longer there: {empty}"
    wrong = []
    for module, others in GRAPH.items():
        part = part_of(module)
        for other in sorted(others):
            above = PARTS.index(part_of(other)) > PARTS.index(part)
            across = {part.partition(".")[0], part_of(other).partition(".")[0]} == set(LIBRARIES.values())
            if above or across:
                wrong.append(f"{module} imports {other}")
    assert not wrong, "\n".join(["these imports point upwards or to the other side:", *wrong])


def test_no_files_import_each_other_in_a_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None


def test_only_its_own_side_imports_a_library():
    wrong = []
    for module, path in MODULES.items():
        roots = {home.partition(".")[0] for home, _ in imported(ast.parse(path.read_text(encoding="utf-8")))}
        assert "" not in roots, f"{module} has a relative import"
        side = part_of(module).partition(".")[0]
        wrong += [f"{module} imports {library}" for library in roots & set(LIBRARIES) if LIBRARIES[library] != side]
    assert not wrong, "\n".join(wrong)


BLOCKED = """
import importlib, sys

class Blocker:
    blocked = {blocked!r}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked)", name=name)

sys.meta_path.insert(0, Blocker())
for library in Blocker.blocked:
    try:
        importlib.import_module(library)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{library}} is not blocked")
"""


def run_without(blocked: list[str], code: str) -> None:
    source = BLOCKED.format(blocked=blocked) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def modules_outside(*sides: str) -> list[str]:
    return [module for module in MODULES if part_of(module).partition(".")[0] not in sides]


def test_the_package_loads_no_library_and_torch_rechubs_side_needs_no_recbole():
    run_without(
        ["torch", "torch_rechub", "recbole", "pandas"],
        f"""
        import cvr_plugins
        assert cvr_plugins.__version__
        assert "numpy" not in sys.modules

        Blocker.blocked = ["torch_rechub", "recbole", "pytest"]
        for name in {modules_outside("rechub", "recbole")!r}:
            importlib.import_module(name)
        sys.modules["cvr_plugins.testing"].check_method("Naive", checks=["options", "device", "weightings"])

        Blocker.blocked = ["recbole"]
        for name in {modules_outside("recbole")!r}:
            importlib.import_module(name)

        import numpy as np
        from torch_rechub.basic.features import SparseFeature
        from cvr_plugins.rechub import ESMM, CVRTrainer, TensorLoader

        rng = np.random.default_rng(0)
        click = rng.integers(0, 2, 200)
        loader = TensorLoader(
            {{"user": rng.integers(0, 9, 200)}}, {{"click": click, "conversion": click * rng.integers(0, 2, 200)}}
        )
        trainer = CVRTrainer(ESMM([SparseFeature("user", 9, embed_dim=4)]), n_epoch=2, model_path=None)
        assert len(trainer.fit(loader, loader).records) == 2
        """,
    )


def test_everything_but_torch_rechubs_side_imports_without_it_and_loads_no_plugin():
    run_without(
        ["torch_rechub"],
        f"""
        for name in {modules_outside("rechub")!r}:
            importlib.import_module(name)
        assert sys.modules["cvr_plugins.plugins._registry"]._registry is None
        """,
    )
