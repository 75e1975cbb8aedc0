"""Nothing happens on import, a hook is called once, and no kind waits for another's imports."""

import shutil
import threading

import pytest

from cvr_plugins import plugins
from cvr_plugins.scaffold import KINDS, write_distribution

HEAVY = ("torch", "recbole", "torch_rechub", "pandas", "numpy", "sklearn", "click")

LOGS_ITS_CALLS = """
import pathlib
from cvr_plugins import hookimpl

def note(what):
    with pathlib.Path(__file__).with_suffix(".log").open("a") as log:
        print(what, file=log)

note("import")

@hookimpl
def cvr_register_methods():
    note("methods")
    return []

@hookimpl
def cvr_register_datasets():
    import time
    time.sleep(0.05)
    note("datasets")
    return {"toy": dict}

@hookimpl
def cvr_register_commands(cli):
    note("commands")
"""


def calls(distributions):
    log = distributions.folder / "acme_module.log"
    return log.read_text().split() if log.exists() else []


def test_importing_loads_nothing_heavy_and_says_nothing(distributions):
    distributions.add("acme", LOGS_ITS_CALLS)
    modules = "cvr_plugins.plugins, cvr_plugins.nearest, cvr_plugins.builtin"
    done = distributions.python(f"import sys, {modules}\nprint([name for name in {HEAVY} if name in sys.modules])")
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
    assert calls(distributions) == [], "plugins are not imported before the registry is asked for"


def test_a_data_set_does_not_wait_for_torch(distributions):
    distributions.add("acme", LOGS_ITS_CALLS)
    done = distributions.python(
        """
        import sys
        from cvr_plugins.plugins import registry
        assert registry().dataset("toy") is dict
        print([name for name in ("torch", "recbole", "torch_rechub") if name in sys.modules])
        registry().method("ESMM")
        print("torch" in sys.modules)
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[]\nTrue\n", "", 0)
    assert calls(distributions) == ["import", "datasets", "methods"]


def test_a_failing_plugin_leaves_one_line_on_standard_error(distributions):
    distributions.add("acme", "raise SystemExit('go away')")
    distributions.add("zeta", LOGS_ITS_CALLS)
    done = distributions.python("from cvr_plugins.plugins import registry\nprint(registry().dataset('toy').__name__)")
    assert (done.stdout, done.returncode) == ("dict\n", 0)
    assert done.stderr == (
        "<cvr_plugins>:0: PluginWarning: Plugin 'acme' (import): SystemExit: go away. "
        "'cvr-plugins plugins --debug' shows more.\n"
    )


def test_each_hook_is_called_once(distributions):
    distributions.add("acme", LOGS_ITS_CALLS)
    registry = distributions.load()
    assert calls(distributions) == ["import"]
    for _ in range(2):
        registry.dataset("toy")
        registry.entries("dataset")
        with pytest.raises(plugins.UnknownName):
            registry.dataset("nothing")
    assert calls(distributions) == ["import", "datasets"]
    registry.collect()
    assert calls(distributions) == ["import", "datasets", "methods"]


def test_threads_share_one_registry_and_one_call(distributions, monkeypatch):
    distributions.add("acme", LOGS_ITS_CALLS)
    start = threading.Barrier(8)
    found = []

    def ask():
        start.wait()
        found.append((plugins.registry(), plugins.registry().dataset("toy")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {(plugins.registry(), dict)}
    assert calls(distributions) == ["import", "datasets"]


def test_a_plugin_that_asks_for_the_registry_on_import_is_told_not_to(distributions):
    distributions.add("acme", "from cvr_plugins.plugins import registry\nregistry()")
    (failure,) = plugins.registry().failures
    assert failure.stage == "import"
    assert failure.message.endswith("A plugin asks for the registry while it is imported; ask inside a hook or later.")


def test_a_hook_may_ask_for_other_kinds_but_not_for_its_own(distributions):
    source = """
    from cvr_plugins import hookimpl
    from cvr_plugins.plugins import registry

    @hookimpl
    def cvr_register_datasets():
        return {{"toy": registry().{question}}}
    """
    distributions.add("acme", source.format(question="dataset('toy')"))
    distributions.add("zeta", source.format(question="method('ESMM').objective"))
    registry = plugins.registry()
    assert registry.dataset("toy").__name__ == "ESMM"
    (failure,) = registry.failures
    assert failure.plugin == "acme"
    assert "asks the registry for the very kind it registers" in failure.message


HEAVY_ON_IMPORT = """
import torch
from cvr_plugins import Method, hookimpl

@hookimpl
def cvr_register_datasets():
    return {}
"""


def test_commands_that_need_no_plugin_import_none_of_twenty(distributions):
    for i in range(20):
        distributions.add(f"acme{i}", HEAVY_ON_IMPORT)
    done = distributions.python(
        f"""
        import sys
        from cvr_plugins.cli._group import run
        for line in ("--help", "--version", "keys", "configs", "run --help"):
            assert run(line.split()) == 0
        print([name for name in sys.modules if name.startswith("acme") or name in {("torch", "recbole")!r}])
        """
    )
    assert (done.stdout.splitlines()[-1], done.stderr, done.returncode) == ("[]", "", 0)


def test_finding_plugins_as_new_writes_them_loads_no_library(distributions):
    for kind in KINDS:
        name = f"my-{kind}"
        package = name.replace("-", "_")
        source = write_distribution(name, kind=kind, folder=distributions.folder / "source" / kind).folder
        shutil.copytree(source / package, distributions.folder / package)
        distributions.add_metadata(name, f"{name} = {package}.hooks")
    done = distributions.python(
        f"""
        import sys
        from cvr_plugins.plugins import registry
        print([info.status for info in registry().plugins] == ["ok"] * {1 + len(KINDS)})
        print([name for name in {HEAVY} if name in sys.modules])
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n[]\n", "", 0)
