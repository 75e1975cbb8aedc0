"""A small simulated funnel log whose true CVR is known, and the batches at its edges."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cvr_plugins.contracts import Labels
from cvr_plugins.encoder import Encoder, Field, normal_table

USERS, ITEMS, TAGS, TAGS_PER_ROW, WIDTH = 60, 40, 12, 3, 8

FUNNELS = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
"""Every possible row of labels: click, conversion, action."""


class Batch(NamedTuple):
    """Feature values and labels of the same rows."""

    x: dict[str, Tensor]
    y: Labels

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        x = {name: values.to(device) for name, values in self.x.items()}
        return Batch(x, of_labels(self.y, lambda column: column.to(device)))


def of_labels(y: Labels, change: Callable[[Tensor], Tensor]) -> Labels:
    """Return labels of which each column that is there has been changed."""
    columns: dict[str, Tensor | None] = {field.name: getattr(y, field.name) for field in fields(y)}
    return replace(y, **{name: change(column) for name, column in columns.items() if column is not None})


@dataclass(frozen=True)
class Log:
    """Rows of a simulated funnel: x, y as in a batch; counterfactual: conversion had every row been clicked `[N]`;
    truth: task -> the probability that the labels were drawn from `[N]`."""

    x: dict[str, Tensor]
    y: Labels
    counterfactual: Tensor
    truth: dict[str, Tensor]

    def batch(self, start: int, stop: int) -> Batch:
        """Return copies of the rows from `start` to before `stop`."""
        return take(Batch(self.x, self.y), torch.arange(start, stop))


@functools.cache
def simulate(rows: int, seed: int) -> Log:
    """Draw a log; users, items, tags and their effects are the same for every seed.

    About 45 % of the rows are clicked and 35 % of the clicks convert; who clicks more converts more.
    """
    world, drawn = torch.Generator().manual_seed(2018), torch.Generator().manual_seed(seed)
    taste, quality, value, appeal = (torch.randn(count, generator=world) for count in (USERS, ITEMS, ITEMS, TAGS))
    user = torch.randint(0, USERS, (rows,), generator=drawn)
    item = torch.randint(0, ITEMS, (rows,), generator=drawn)
    tags = torch.randint(1, TAGS, (rows, TAGS_PER_ROW), generator=drawn)
    # Padded with 0, some rows entirely.
    tags = tags * (torch.arange(TAGS_PER_ROW) < torch.randint(0, TAGS_PER_ROW + 1, (rows, 1), generator=drawn))
    price = torch.randn(rows, generator=drawn)
    ctr = torch.sigmoid(taste[user] + quality[item] - 0.3 + 0.2 * appeal[tags[:, 0]])
    cvr = torch.sigmoid(1.2 * value[item] + 0.8 * taste[user] - 0.9 - 0.3 * price)

    def draw(p: Tensor) -> Tensor:
        return (torch.rand(rows, generator=drawn) < p).float()

    click, counterfactual = draw(ctr), draw(cvr)
    conversion = click * counterfactual
    action = click * draw(0.3 + 0.5 * counterfactual)
    # P(action | click) = .8 cvr + .3 (1 - cvr)
    truth = {"ctr": ctr, "cvr": cvr, "ctcvr": ctr * cvr, "ctavr": ctr * (0.3 + 0.5 * cvr)}
    x = {"user": user, "item": item, "tags": tags, "price": price}
    return Log(x, Labels(click, conversion, action, propensity=ctr), counterfactual, truth)


def new_encoder() -> Encoder:
    """Return an encoder of the simulated features: two tokens, the mean over a padded sequence, and a dense value."""
    table = functools.partial(normal_table, std=0.1)
    fields = [
        Field("user", "token", WIDTH, USERS, initializer=table),
        Field("item", "token", WIDTH, ITEMS, initializer=table),
        Field("tags", "token_seq", WIDTH, TAGS, padding=0, initializer=table),
        Field("price", "dense", 1),
    ]
    return Encoder(fields)


def edge_batches() -> dict[str, Batch]:
    """Return what a batch is like -> a batch that training may meet and that a mean or a logarithm may not survive."""
    rows = simulate(16, seed=7).batch(0, 16)
    other = torch.arange(16) % 2
    none, all_ = torch.zeros(16), torch.ones(16)
    labels = {
        "a batch without a click": (none, none, none),
        "a batch of clicks alone": (all_, other.float(), (torch.arange(16) % 3 == 0).float()),
        "a batch without a conversion": (other.float(), none, none),
        "a batch where every click converts": (other.float(), other.float(), other.float()),
        "a batch of conversions alone": (all_, all_, all_),
    }
    batches = {kind: Batch(rows.x, Labels(*columns, rows.y.propensity)) for kind, columns in labels.items()}
    one = simulate(16, seed=7).batch(0, 1)
    for funnel in FUNNELS:
        click, conversion, action = (torch.tensor([float(value)]) for value in funnel)
        shown = "click {}, conversion {}, action {}".format(*funnel)
        labelled = Labels(click, conversion, action, one.y.propensity)
        batches[f"a batch of one row ({shown})"] = Batch(one.x, labelled)
    return batches


def extreme_logits(heads: tuple[str, ...], size: float) -> tuple[dict[str, Tensor], Batch]:
    """Return head -> logits of +-`size` in every combination of signs and labels, and as many rows with those labels.

    Of more than four heads 16 combinations are drawn.
    """
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=min(len(heads), 4))))
    if len(heads) > 4:
        signs = torch.randint(0, 2, (16, len(heads)), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    logits = size * signs.repeat_interleave(len(FUNNELS), dim=0)
    funnels = torch.tensor(FUNNELS, dtype=torch.float32).repeat(len(signs), 1)
    rows = simulate(len(funnels), seed=8).batch(0, len(funnels))
    # A propensity known before training has its ends, too.
    propensity = torch.tensor([0.0, 1.0, 0.3]).repeat(len(funnels))[: len(funnels)]
    click, conversion, action = (column.contiguous() for column in funnels.unbind(dim=1))
    columns = dict(zip(heads, (column.clone() for column in logits.unbind(dim=1)), strict=True))
    return columns, Batch(rows.x, Labels(click, conversion, action, propensity))


def take(batch: Batch, rows: Tensor) -> Batch:
    """Return rows of a batch, by index."""
    labels = of_labels(batch.y, lambda column: column[rows])
    return Batch({name: values[rows] for name, values in batch.x.items()}, labels)
