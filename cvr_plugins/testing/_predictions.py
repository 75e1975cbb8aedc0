"""Checks of predictions: their form, that a row's does not depend on its batch, and that they are learnt."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cvr_plugins.metrics import auc
from cvr_plugins.model import CVRModel
from cvr_plugins.testing._case import Case, training_batch
from cvr_plugins.testing._check import Problem, check, require
from cvr_plugins.testing._log import Log, extreme_logits, simulate, take
from cvr_plugins.testing._training import Trainer

TOLERANCE = 1e-5
ROWS = 24
LEAST_SHARE = 0.3
"""Of what the probabilities that the labels were drawn from would gain over chance (AUC .5)."""
TRAIN_ROWS, TEST_ROWS, TRAIN_BATCH, MOST_EPOCHS = 4096, 4096, 256, 12


@check(
    "predictions",
    "every task is predicted as a probability per row, and forward stacks them in the order of `tasks`",
    cause="a logit returned without its sigmoid, logits kept as [B, 1], or a task missing from predict()",
    requires=("construction",),
)
def predictions(case: Case) -> None:
    """Names, shapes and ranges, also at extreme logits."""
    model = case.model().eval()
    objective = model.objective
    for rows in (1, 2, 33):
        x = training_batch(0).x
        x = {name: values[:rows] for name, values in x.items()}
        with torch.no_grad():
            predicted = model.predict(x)
            _require_probabilities(objective.tasks, predicted, rows, f"of {rows} rows")
            stacked = model(x)
        wanted = torch.stack([predicted[task] for task in objective.tasks], dim=1)
        require(
            stacked.shape == wanted.shape and torch.allclose(stacked, wanted, atol=TOLERANCE),
            f"forward() to return [B, {len(objective.tasks)}], the tasks in their order",
            f"shape {list(stacked.shape)}, or other values than predict()",
        )
    for size in (50.0, 200.0):
        logits, batch = extreme_logits(objective.heads, size)
        with torch.no_grad():
            predicted = objective.predict(replace(model.outputs(batch.x), logits=logits))
        _require_probabilities(objective.tasks, predicted, len(batch.y.click), f"at logits of +-{size:g}")


@check(
    "row_independence",
    "the prediction of a row does not depend on the rows it is predicted with",
    cause="a mean, a rank or a normalisation over the batch in predict(), or one in the architecture that also works "
    "on batch statistics in evaluation mode",
    requires=("predictions", "training"),
)
def row_independence(case: Case) -> None:
    """The same rows in several company."""
    model = case.trained()[0].model.eval()
    batch = take(training_batch(11), torch.arange(ROWS))
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.predict(batch.x)
        companies = {
            "alone": torch.arange(ROWS).split(1),
            "in batches of 7": torch.arange(ROWS).split(7),
            "in another order": (order,),
        }
        for company, parts in companies.items():
            for task in model.tasks:
                apart = torch.empty_like(whole[task])
                for rows in parts:
                    apart[rows] = model.predict(take(batch, rows).x)[task]
                worst = int((apart - whole[task]).abs().argmax())
                require(
                    torch.allclose(apart, whole[task], rtol=0, atol=TOLERANCE),
                    f"the prediction of task {task!r} to be the same in a batch of {ROWS} and {company}",
                    f"{whole[task][worst].item():.6g} and {apart[worst].item():.6g} for one row",
                )


@check(
    "learning",
    "training on a simulated log beats chance for every task that it can be measured for",
    cause="a sign or a label turned round, a prediction from another head than the one trained, or a weight that "
    "drowns the term that trains it",
    requires=("predictions", "training"),
)
def learning(case: Case) -> None:
    """AUC against what truly happened, after as many epochs as it takes up to a limit."""
    log, test = simulate(TRAIN_ROWS, seed=11), simulate(TEST_ROWS, seed=12)
    trainer = Trainer(case.model(seed=1))
    found: dict[str, tuple[float, float]] = {}
    for epoch in range(MOST_EPOCHS):
        order = torch.randperm(TRAIN_ROWS, generator=torch.Generator().manual_seed(epoch))
        whole = log.batch(0, TRAIN_ROWS)
        for rows in order.split(TRAIN_BATCH):
            trainer.step(take(whole, rows))
        trainer.end_epoch(epoch)
        found = _scores(trainer.model, test)
        if all(value >= least for value, least in found.values()):
            return
    task, (value, least) = min(found.items(), key=lambda item: item[1][0] - item[1][1])
    raise Problem(
        f"an AUC of at least {least:.3f} for {task} in the entire space of the simulated log",
        f"{value:.3f} after {MOST_EPOCHS} epochs of {TRAIN_ROWS} rows (chance: 0.5)",
    )


def _scores(model: CVRModel, log: Log) -> dict[str, tuple[float, float]]:
    """Task -> its AUC and the least that counts as learnt; CVR against the counterfactual conversion."""
    model.eval()
    with torch.no_grad():
        predicted = model.predict(log.x)
    assert log.y.action is not None
    labels = {
        "ctr": log.y.click,
        "cvr": log.counterfactual,
        "ctcvr": log.y.click_and_conversion,
        "ctavr": log.y.click * log.y.action,
    }
    found = {}
    for task in model.tasks:
        if task in labels:
            value, ceiling = _auc(labels[task], predicted[task]), _auc(labels[task], log.truth[task])
            found[task] = (value, 0.5 + LEAST_SHARE * (ceiling - 0.5))
    return found


def _auc(labels: Tensor, scores: Tensor) -> float:
    value = auc(labels.numpy(), scores.numpy())
    assert value is not None, "the simulated log has labels of both kinds"
    return value


def _require_probabilities(tasks: tuple[str, ...], predicted: object, rows: int, where: str) -> None:
    if not isinstance(predicted, dict) or not set(tasks) <= set(predicted):
        got = ", ".join(predicted) if isinstance(predicted, dict) else f"a {type(predicted).__name__}"
        raise Problem(f"predict() to return the tasks {', '.join(tasks)}", got)
    for task in tasks:
        values = predicted[task]
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        require(shape == [rows], f"task {task!r} predicted as [B], here {where}", f"{shape}")
        span = f"values from {values.min().item():.4g} to {values.max().item():.4g}"
        require(((values >= 0) & (values <= 1)).all(), f"task {task!r} predicted in [0, 1], here {where}", span)
