"""Broken distributions, built and installed, from the command line: the rest works, and what is wrong is told."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from cvr_plugins import API_VERSION

FRAMEWORKS = {"torch-rechub": "Works", **({"recbole": "BPR"} if importlib.util.find_spec("recbole") else {})}
"""Framework -> a model, of another plugin or of its own, that goes on working."""

HOOK = "from cvr_plugins import hookimpl\n\n@hookimpl\ndef {name}():\n    {body}\n"
METHODS, MODELS = "cvr_register_methods", "cvr_register_recbole_models"
EVERYWHERE, IN_RECBOLE = ("torch-rechub", "recbole"), ("recbole",)
REFUSED = "What {} gave was refused: it must return a list of {}; got {}."
OWN_NAME = HOOK.format(
    name=MODELS,
    body="from recbole.model.general_recommender import bpr\n    return [type('BPR', (bpr.BPR,), {})]",
)

BROKEN = {
    "import error": (
        {"imports": "import no_such_module"},
        *("failed", "ModuleNotFoundError: No module named 'no_such_module'", EVERYWHERE),
    ),
    "SystemExit on import": ({"exits": "raise SystemExit(3)"}, "failed", "SystemExit: 3", EVERYWHERE),
    "hook raising": (
        {"raises": HOOK.format(name=METHODS, body="1 / 0")},
        *("partial", "ZeroDivisionError: division by zero", EVERYWHERE),
    ),
    "hook for RecBole raising": (
        {"raises_too": HOOK.format(name=MODELS, body="raise SystemExit('boom')")},
        *("partial", "SystemExit: boom", IN_RECBOLE),
    ),
    "hook returning garbage": (
        {"garbage": HOOK.format(name=METHODS, body="return {'Mine': 1}")},
        *("partial", REFUSED.format(METHODS, "Method", "{'Mine': 1}"), EVERYWHERE),
    ),
    "hook for RecBole returning garbage": (
        {"garbage_too": HOOK.format(name=MODELS, body="return 'BPR'")},
        *("partial", REFUSED.format(MODELS, "RecBole model classes", "'BPR'"), IN_RECBOLE),
    ),
    "misspelt hook": (
        {"misspelt": HOOK.format(name="cvr_register_method", body="return []")},
        *("partial", "There is no hook 'cvr_register_method'. Did you mean cvr_register_methods?", EVERYWHERE),
    ),
    "name of a built-in": (
        {"takes_ours": "esmm"},
        *("partial", "The method name 'esmm' is a built-in's; ask for 'takes_ours:esmm'.", EVERYWHERE),
    ),
    "name of RecBole's own": (
        {"takes_theirs": OWN_NAME},
        *("partial", "The name of its RecBole model 'BPR' is that of RecBole's own model BPR", IN_RECBOLE),
    ),
    "name of another plugin's": (
        {"other": "Mine", "rival": "mine"},
        "partial",
        "The method name 'mine' is used by plugin 'other' too, so none of them gets it; ask for 'rival:mine'.",
        EVERYWHERE,
    ),
    "newer API": (
        {"newer": API_VERSION + 1},
        "partial",
        f"is written for version {API_VERSION + 1} of the contracts; this cvr-plugins has version {API_VERSION}.",
        EVERYWHERE,
    ),
}
"""What is broken -> source by plugin, or its method's name or api; the last one's status and message; told where."""


@pytest.fixture
def sources_of(method_source):
    """Case -> source by plugin."""

    def make(what):
        found = {}
        for plugin, source in BROKEN[what][0].items():
            if isinstance(source, int):
                source = method_source(api=source)
            found[plugin] = source if " " in source else method_source(source)
        return found

    return make


@pytest.mark.parametrize("what", BROKEN)
def test_the_rest_goes_on_working_and_what_is_wrong_is_told(
    what, sources_of, method_source, distributions, typed, train, tmp_path
):
    sources, (_, status, message, where) = sources_of(what), BROKEN[what]
    if "torch-rechub" not in where and "recbole" not in FRAMEWORKS:
        pytest.skip("RecBole is not installed")
    for name, source in {**sources, "works": method_source("Works")}.items():
        distributions.add(name, source)
    plugin = list(sources)[-1]
    raised = "Error: " in message or "Exit: " in message

    for framework, model in FRAMEWORKS.items():
        code, out, err = train(model, tmp_path / framework, framework)
        assert code == 0, err
        assert f"{model} on the test part" in out
        told = [line for line in err.splitlines() if f"Plugin '{plugin}'" in line]
        assert len(told) == (framework in where), err
        for line in told:
            assert message in line
            assert line.endswith("'cvr-plugins plugins --debug' shows more.")

    code, out, _ = typed("plugins")
    assert code == 0
    (row,) = [line for line in out.splitlines() if line.startswith(f"{plugin} ")]
    assert status in row.split()
    (row,) = [line for line in out.splitlines() if line.startswith("works ")]
    assert row.split()[:4] == ["works", "works-dist", "1.0", "ok"]
    assert message in out
    assert ("'cvr-plugins plugins --debug' shows the tracebacks." in out) is raised

    code, out, _ = typed("plugins", "--debug")
    assert code == 0
    assert ("Traceback (most recent call last)" in out) is raised
    assert (f"{plugin}_module.py" in out) is raised


@pytest.mark.slow
def test_all_of_them_at_once_in_a_process_of_their_own(sources_of, method_source, distributions, small_data, tmp_path):
    in_use = {what: row for what, row in BROKEN.items() if set(row[3]) & set(FRAMEWORKS)}
    sources = {plugin: source for what in in_use for plugin, source in sources_of(what).items()}
    sources["falls_over"] = method_source("FallsOver", factor="float('nan')")
    distributions.install(sources)
    program = Path(sys.executable).with_name("cvr-plugins")
    assert program.is_file(), "cvr-plugins is not installed beside the Python that runs the tests"

    def typed(*arguments):
        done = distributions.program(program, *arguments, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    code, out, err = typed("plugins", "--json")
    assert code == 0
    assert "Traceback" not in err
    found = {each["name"]: each for each in json.loads(out)}
    for plugins, status, message, _ in in_use.values():
        last = found[list(plugins)[-1]]
        assert (last["distribution"], last["version"], last["status"]) == (f"{last['name']}-dist", "1.0", status)
        assert message in str(last["failures"][0]["message"])
    assert found["builtin"]["status"] == found["falls_over"]["status"] == "ok"

    options = ["-d", small_data / "log.csv", "epochs=1", "embedding_size=2", "dims=[2]"]
    code, out, err = typed("run", "-m", "Naive", "-o", "naive", *options)
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith("Warning: Plugin ")]
    everywhere = {plugin: None for row in in_use.values() if "torch-rechub" in row[3] for plugin in row[0]}
    assert sorted(line.split("'")[1] for line in told) == sorted(everywhere)
    assert "Traceback" not in err

    code, _, err = typed("run", "-m", "FallsOver", "-o", "falls", *options)
    assert code == 1
    assert err.splitlines()[-1].startswith("Error: FallsOver (plugin falls_over): the loss term 'ctr' became nan")
    assert json.loads((tmp_path / "falls" / "run.json").read_text())["plugin"] == "falls_over"
