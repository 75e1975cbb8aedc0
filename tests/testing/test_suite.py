"""How checks are chosen, made and reported; an author's three lines; and that the suite trains as CVRTrainer does."""

from __future__ import annotations

import dataclasses
import pickle
import random

import numpy as np
import pytest
import torch

from cvr_plugins import Method
from cvr_plugins.assembly import OptionError
from cvr_plugins.objectives import ESMM, Naive
from cvr_plugins.plugins import RegistryError
from cvr_plugins.testing import CheckFailure, UnknownCheck, check_method, method_checks, run_checks
from cvr_plugins.testing._case import Case
from cvr_plugins.testing._log import simulate
from cvr_plugins.testing._training import Trainer


class Broken(Naive):
    """Without the CTCVR prediction that it declares."""

    def predict(self, out):
        return {"cvr": out.logits["cvr"]}


BROKEN = Method("Broken", Broken, summary="Broken for a test", reference="A test, 2026")


def names(results):
    return [result.name for result in results]


def test_checks_come_in_the_order_they_rest_on_each_other():
    seen = set()
    for check in method_checks():
        assert set(check.requires) <= seen, check.name
        assert len(check.description.split()) > 5
        assert len(check.cause.split()) > 8
        assert check.description[0].islower()
        assert not check.description.endswith(".")
        assert not check.cause.endswith(".")
        assert check.__name__ == check.name
        seen.add(check.name)
    assert len(seen) == len(method_checks()) == 25
    for text in ("description", "cause"):
        assert len({getattr(check, text) for check in method_checks()}) == 25


def test_chosen_checks_are_made_with_those_they_rest_on_and_reported_alone():
    assert names(run_checks("ESMM", checks=["stops", "metadata", "stops"])) == ["metadata", "stops"]
    (result,) = check_method("ESMM", checks="stops")
    assert (result.name, result.status, str(result)) == ("stops", "passed", "stops: passed")
    assert result.seconds > 0
    assert names(method_checks(["learning", "stops"])) == ["learning", "stops"]


def test_a_failed_check_that_the_chosen_one_rests_on_is_reported_too():
    results = run_checks(BROKEN, checks=["learning"])
    assert [(result.name, result.status) for result in results] == [("predictions", "failed"), ("learning", "skipped")]
    assert results[1].found == "since 'predictions' did not pass"
    assert str(results[1]) == "learning: skipped, since 'predictions' did not pass"


def test_a_failure_says_check_expectation_finding_and_cause():
    with pytest.raises(CheckFailure) as caught:
        check_method(BROKEN, checks=["metadata", "predictions", "learning"])
    assert str(caught.value) == (
        "Broken fails predictions.\n"
        "\n"
        "predictions: every task is predicted as a probability per row, and forward stacks them in the order of "
        "`tasks`\n"
        "  expected: predict() to return the tasks cvr, ctr, ctcvr\n"
        "  found: cvr\n"
        "  usual cause: a logit returned without its sigmoid, logits kept as [B, 1], or a task missing from predict()\n"
        "\n"
        "Not run, since they rest on what failed: learning."
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    statuses = {result.name: result.status for result in caught.value.results}
    assert statuses == {"metadata": "passed", "predictions": "failed", "learning": "skipped"}


def test_an_exception_of_the_method_is_the_cause_and_names_its_line():
    class Failing(Naive):
        def loss(self, out, y):
            raise KeyError("price")

    with pytest.raises(CheckFailure, match=r"found: KeyError: 'price' \(.*test_suite.py:\d+ in loss\)") as caught:
        check_method(dataclasses.replace(BROKEN, objective=Failing), checks=["stops"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_even_an_exit_of_the_method_is_a_failure():
    class Leaving(Naive):
        def predict(self, out):
            raise SystemExit(3)

    results = run_checks(dataclasses.replace(BROKEN, objective=Leaving), checks=["predictions"])
    assert results[0].found.startswith("SystemExit: 3 (")


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("ESMM", {"checks": ["stop"]}, UnknownCheck, r"Unknown check 'stop'. Did you mean stops\?"),
        ("ESMM", {"checks": ["zzz"]}, UnknownCheck, "Unknown check 'zzz'. Known: metadata, construction, "),
        ("ESM", {}, RegistryError, "Unknown method 'ESM'"),
        (ESMM, {}, TypeError, r"Checks are of a cvr_plugins.Method .*got <class .*Wrap the objective: Method\(name="),
        (3, {}, TypeError, "Checks are of a cvr_plugins.Method or the name of a registered one; got 3"),
        ("ESCM2_IPS", {"options": {"floor": 0.1}}, OptionError, "Unknown option 'floor'"),
        ("ESCM2_IPS", {"options": {"lambda_cvr": -1}}, OptionError, "lambda_cvr must be a finite number above 0"),
        ("ESMM", {"options": {"architecture": "tower"}}, RegistryError, "Unknown architecture 'tower'"),
    ],
)
def test_what_the_caller_got_wrong_is_no_failure_of_the_method(method, options, error, message):
    with pytest.raises(error, match=message):
        run_checks(method, **options)


def test_options_replace_the_methods_defaults():
    class Sensitive(Naive):
        """weight: of the CVR loss, which is not averaged where it is 2."""

        def __init__(self, *, weight=1.0):
            super().__init__()
            self.weight = weight

        def loss(self, out, y):
            terms = super().loss(out, y)
            return {**terms, "cvr": out.logits["cvr"] if self.weight == 2 else self.weight * terms["cvr"]}

    method = dataclasses.replace(BROKEN, objective=Sensitive)
    check_method(method, checks=["terms"])
    with pytest.raises(CheckFailure, match="the loss term 'cvr' to be a scalar tensor"):
        check_method(method, checks=["terms"], options={"weight": 2})
    options = {"architecture": "mmoe", "backbone": "deepfm", "weighting": "dwa", "n_experts": 3}
    built = Case(method, options).model()
    assert type(built.architecture).__name__ == "MMoE"
    assert len(built.architecture.experts) == 3
    assert type(built.weighting).__name__ == "DWA"


def test_the_callers_generators_are_left_as_they_were():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is meant, here and below
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    check_method("ESMM", checks=["seed", "device", "learning"])
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert [str(part) for part in before[2]] == [str(part) for part in after[2]]


AUTHOR = """
import pytest
from cvr_plugins import Method
from cvr_plugins.objectives import Naive
from cvr_plugins.testing import method_checks

class Mine(Naive):
    def predict(self, out):
        return {**super().predict(out), "cvr": out.logits["cvr"]}

MINE = Method("Mine", Mine, summary="Mine", reference="Me, 2026")

@pytest.mark.parametrize("check", method_checks(["tasks", "predictions"]))
def test_mine(check):
    check(MINE)
"""


def test_an_authors_three_lines(tmp_path, monkeypatch, capsys):
    path = tmp_path / "test_mine.py"
    path.write_text(AUTHOR)
    monkeypatch.chdir(tmp_path)
    assert pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(path)]) == 1
    said = capsys.readouterr().out
    assert "1 failed, 1 passed" in said
    assert "FAILED test_mine.py::test_mine[predictions] - cvr_plugins.testing" in said
    assert "CheckFailure: Mine fails predictions.\n" in said
    assert "  usual cause: a logit returned without its sigmoid" in said
    assert "_suite.py" not in said


@pytest.mark.parametrize(("method", "options"), [("DR_JL", {}), ("ESMM", {"weighting": "dwa"}), ("IdeFN", {})])
def test_the_suite_trains_as_cvr_trainer_does(method, options):
    pytest.importorskip("torch_rechub")
    from cvr_plugins.plugins import registry
    from cvr_plugins.rechub import CVRTrainer, TensorLoader

    log = simulate(512, seed=3)
    case = Case(registry().method(method), options)
    theirs, ours = case.model(), case.model()
    params = {"lr": 0.01, "weight_decay": 1e-5, "fused": False}
    labels = {"click": log.y.click, "conversion": log.y.conversion, "action": log.y.action}
    loader = TensorLoader(log.x, labels, batch_size=64)
    CVRTrainer(theirs, optimizer_params=params, n_epoch=3, model_path=None, progress=False).fit(loader)
    suite = Trainer(ours, lambda parameters: torch.optim.Adam(parameters, **params))
    for epoch in range(3):
        for start in range(0, 512, 64):
            suite.step(log.batch(start, start + 64))
        suite.end_epoch(epoch)
    expected, found = theirs.state_dict(), ours.state_dict()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, equal_nan=True, check_dtype=False)


def test_the_simulated_log_is_what_it_says():
    log = simulate(40000, seed=5)
    assert log.y.action is not None
    assert 0.4 < log.y.click.mean() < 0.5
    clicked = log.y.click == 1
    assert 0.3 < log.y.conversion[clicked].mean() < 0.4
    assert not log.y.conversion[~clicked].any()
    assert not log.y.action[~clicked].any()
    drawn = {
        "ctr": log.y.click,
        "cvr": log.counterfactual,
        "ctcvr": log.y.conversion,
        "ctavr": log.y.action,
    }
    for task, truth in log.truth.items():
        for part in (truth < truth.median(), truth >= truth.median()):
            assert drawn[task][part].mean() == pytest.approx(truth[part].mean().item(), abs=0.01), task
    # Who clicks more converts more: a model of clicked rows alone is biased.
    assert log.truth["cvr"][clicked].mean() - log.truth["cvr"].mean() > 0.02
