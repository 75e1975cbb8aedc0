"""Throw-away distributions on a search path of their own: metadata folders with modules."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from cvr_plugins import plugins
from cvr_plugins.cli._group import run

METHODS = """
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_methods():
    from cvr_plugins import Method, Objective
    from cvr_plugins.functional import bce

    class Broken(Objective):
        {extra}
        def loss(self, out, y):
            return {{"ctr": bce(out.logits["ctr"], y.click).mean() * {factor}, "cvr": out.logits["cvr"].mean() * 0}}

    return [Method(name, Broken, summary={summary!r}, reference="none", api={api}) for name in {names!r}]
"""


def source_of(*names: str, summary: str = "broken", extra: str = "", factor: str = "1", api: int = 1) -> str:
    """The source of a plugin with methods of these names, sound unless it is told otherwise."""
    indented = textwrap.indent(textwrap.dedent(extra).strip(), " " * 8).strip()
    return METHODS.format(names=names, summary=summary, extra=indented, factor=factor, api=api)


class Distributions:
    """Distributions installed for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._caught: list[warnings.WarningMessage] = []

    def add(
        self,
        plugin: str,
        source: str,
        *,
        module: str | None = None,
        value: str | None = None,
        distribution: str | None = None,
        version: str = "1.0",
    ) -> None:
        """Install `distribution` with a module of this source and one entry point, `plugin = value`."""
        module = module or f"{plugin}_module"
        self.folder.joinpath(f"{module}.py").write_text(textwrap.dedent(source))
        self.add_metadata(distribution or f"{plugin}-dist", f"{plugin} = {value or module}", version=version)

    def add_methods(self, plugin: str, *names: str, **options: str) -> None:
        """Install a plugin with methods of these names, `summary` telling whose they are."""
        self.add(plugin, source_of(*names, summary=f"of {plugin}"), **options)

    def add_metadata(self, distribution: str, *entry_points: str, version: str = "1.0") -> None:
        """Install the metadata of a distribution."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        info.joinpath("entry_points.txt").write_text("\n".join(["[cvr_plugins]", *entry_points, ""]))

    @property
    def messages(self) -> list[str]:
        """The warnings about plugins so far."""
        return [str(each.message) for each in self._caught if issubclass(each.category, plugins.PluginWarning)]

    def load(self, selection: str | None = None) -> plugins.Registry:
        """Load a fresh registry; its warnings, and those of later look-ups, gather in `messages`."""
        importlib.invalidate_caches()
        return plugins.Registry.load(selection)

    def python(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run code in a process of its own, where the distributions are installed."""
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path, **environment},
            timeout=120,
        )


@pytest.fixture
def distributions(tmp_path, monkeypatch):
    monkeypatch.delenv("CVR_PLUGINS_LOAD", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    plugins.reset()
    installed = Distributions(tmp_path)
    with warnings.catch_warnings(record=True) as installed._caught:
        warnings.simplefilter("always")
        yield installed
    plugins.reset()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path.parent)):
            del sys.modules[name]


def info(registry: plugins.Registry, name: str) -> plugins.PluginInfo:
    (found,) = [plugin for plugin in registry.plugins if plugin.name == name]
    return found


@pytest.fixture(name="info")
def info_of():
    return info


@pytest.fixture(scope="session")
def method_source():
    """A maker of the source of a plugin with one method, see `source_of`."""
    return lambda name="Broken", **options: source_of(name, **options)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A folder with the funnel log `log.csv`, and RecBole's atomic files of it, `funnel`, and of ratings, `toy`."""
    folder = tmp_path_factory.mktemp("small")
    log = [(i % 7, i % 11, i % 2, int(i % 6 == 1)) for i in range(600)]
    ratings = [(user, (7 * user + 3 * n) % 40, user + 10 * n) for user in range(60) for n in range(15)]

    def write(path: Path, head: list[str], rows: list[tuple[int, ...]], separator: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(separator.join(map(str, row)) + "\n" for row in [head, *rows]))

    write(folder / "log.csv", ["user_id", "item_id", "click", "conversion"], log, ",")
    columns = ["user_id:token", "item_id:token", "click:float", "conversion:float"]
    write(folder / "funnel" / "funnel.inter", columns, log, "\t")
    write(folder / "toy" / "toy.inter", ["user_id:token", "item_id:token", "timestamp:float"], ratings, "\t")
    return folder


@pytest.fixture
def typed(capsys):
    """A command line, typed as in a process of its own: exit code, standard output, standard error."""

    def make(*arguments: object) -> tuple[int, str, str]:
        plugins.reset()
        code = run([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return make


@pytest.fixture
def train(typed, small_data):
    """A quick run of a model in a framework, into a folder."""

    def make(model: str, folder: Path, framework: str = "torch-rechub", *options: str) -> tuple[int, str, str]:
        data = "toy" if model.endswith("BPR") else "funnel" if framework == "recbole" else small_data / "log.csv"
        keys = ["epochs=1", "embedding_size=2", "show_progress=false"]
        keys += ["dims=[2]"] if data != "toy" else []
        keys += [f"data_path={small_data}", "train_batch_size=256"] if framework == "recbole" else []
        return typed("run", "-m", model, "-d", data, "-o", folder, "--framework", framework, *keys, *options)

    return make
