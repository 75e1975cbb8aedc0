"""Broken distributions, from the command line: the rest works, and what is wrong is told."""

import importlib.util
import json

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

BROKEN = [
    ({"imports": "import no_such_module"}, "failed", "ModuleNotFoundError: No module named", EVERYWHERE),
    ({"exits": "raise SystemExit(3)"}, "failed", "SystemExit: 3", EVERYWHERE),
    (
        {"raises": HOOK.format(name=METHODS, body="1 / 0")},
        *("partial", "ZeroDivisionError: division by zero", EVERYWHERE),
    ),
    (
        {"raises_too": HOOK.format(name=MODELS, body="raise SystemExit('boom')")},
        *("partial", "SystemExit: boom", IN_RECBOLE),
    ),
    (
        {"garbage": HOOK.format(name=METHODS, body="return {'Mine': 1}")},
        *("partial", REFUSED.format(METHODS, "Method", "{'Mine': 1}"), EVERYWHERE),
    ),
    (
        {"garbage_too": HOOK.format(name=MODELS, body="return 'BPR'")},
        *("partial", REFUSED.format(MODELS, "RecBole model classes", "'BPR'"), IN_RECBOLE),
    ),
    (
        {"misspelt": HOOK.format(name="cvr_register_method", body="return []")},
        *("partial", "There is no hook 'cvr_register_method'. Did you mean cvr_register_methods?", EVERYWHERE),
    ),
    ({"takes_ours": "esmm"}, "partial", "'esmm' is a built-in's; ask for 'takes_ours:esmm'.", EVERYWHERE),
    ({"takes_theirs": OWN_NAME}, "partial", "RecBole model 'BPR' is that of RecBole's own model BPR", IN_RECBOLE),
    (
        {"other": "Mine", "rival": "mine"},
        *("partial", "'mine' is used by plugin 'other' too, so none of them gets it; ask for 'rival:mine'", EVERYWHERE),
    ),
    ({"newer": API_VERSION + 1}, "partial", f"is written for version {API_VERSION + 1} of the contracts;", EVERYWHERE),
]
"""Source by plugin, or its method's name or api; the last plugin's status and message; the frameworks that tell it."""
IN_USE = [row for row in BROKEN if set(row[3]) & set(FRAMEWORKS)]


@pytest.fixture(scope="module")
def broken(method_source):
    """Plugin -> source of its module: all of what is broken, a plugin that works and one whose method falls over."""
    sources = {"works": method_source("Works"), "falls_over": method_source("FallsOver", factor="float('nan')")}
    for plugins, *_ in IN_USE:
        for plugin, source in plugins.items():
            if isinstance(source, int):
                source = method_source(api=source)
            sources[plugin] = source if " " in source else method_source(source)
    return sources


def test_with_all_of_them_installed_the_rest_goes_on_working_and_what_is_wrong_is_told(
    broken, distributions, typed, train, tmp_path
):
    for plugin, source in broken.items():
        distributions.add(plugin, source)
    for framework, model in FRAMEWORKS.items():
        code, out, err = train(model, tmp_path / framework, framework)
        assert code == 0, err
        assert f"{model} on the test part" in out
        assert "Traceback" not in err
        told = {line.split("'")[1]: line for line in err.splitlines() if line.startswith("Warning: Plugin ")}
        expected = {plugin: None for plugins, *_, where in IN_USE if framework in where for plugin in plugins}
        assert told.keys() == expected.keys()
        assert all(line.endswith("'cvr-plugins plugins --debug' shows more.") for line in told.values())

    code, _, err = train("FallsOver", tmp_path / "falls")
    assert code == 1
    assert err.splitlines()[-1].startswith("Error: FallsOver (plugin falls_over): the loss term 'ctr' became nan")
    assert json.loads((tmp_path / "falls.unfinished" / "run.json").read_text())["plugin"] == "falls_over"

    found = {each["name"]: each for each in json.loads(typed("plugins", "--json")[1])}
    _, listed, _ = typed("plugins")
    _, debug, _ = typed("plugins", "--debug")
    assert "'cvr-plugins plugins --debug' shows the tracebacks." in listed
    assert "Traceback (most recent call last)" in debug
    for plugins, status, message, _ in IN_USE:
        last = found[list(plugins)[-1]]
        assert (last["distribution"], last["version"], last["status"]) == (f"{last['name']}-dist", "1.0", status)
        assert message in str(last["failures"][0]["message"])
        assert message in listed
        assert (f"{last['name']}_module.py" in debug) == ("Error: " in message or "Exit: " in message)
    assert found["builtin"]["status"] == found["works"]["status"] == found["falls_over"]["status"] == "ok"
