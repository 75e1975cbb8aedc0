"""Methods whose loss is wrong at the edges, changes things, or moves a head that it must not."""

from __future__ import annotations

import numpy as np
import torch

from cvr_plugins.functional import bce, propensity
from cvr_plugins.objectives import ESMM, Naive


class Ratio(Naive):
    """Divides by the number of clicks, which may be 0."""

    def loss(self, out, y):
        cvr = (bce(out.logits["cvr"], y.conversion) * y.click).sum() / y.click.sum()
        return {**super().loss(out, y), "cvr": cvr}


class Rounded(Naive):
    """Takes the logarithm of a probability that may be 0 or 1."""

    def loss(self, out, y):
        p = out.logits["ctr"].sigmoid()
        return {**super().loss(out, y), "ctr": -(y.click * p.log() + (1 - y.click) * (1 - p).log()).mean()}


class Steep(Naive):
    """Finite everywhere, with a gradient that is not."""

    def loss(self, out, y):
        return {**super().loss(out, y), "ctr": super().loss(out, y)["ctr"] + out.logits["ctr"].sigmoid().sqrt().mean()}


class Forgetful(Naive):
    """Fails once it has state and a batch without a conversion."""

    def __init__(self):
        super().__init__()
        self.register_buffer("converted", torch.zeros(()))

    def loss(self, out, y):
        terms = super().loss(out, y)
        if self.converted > 0:
            terms["cvr"] = terms["cvr"] * (y.conversion.sum() / y.conversion.sum())
        return terms

    def after_batch(self, out, y, x):
        self.converted += y.conversion.sum()


class Lonely(Naive):
    """Standardises over the batch."""

    def loss(self, out, y):
        return {**super().loss(out, y), "cvr": super().loss(out, y)["cvr"] + 0 * out.logits["cvr"].detach().std()}


EDGES = [
    (Ratio, "a finite loss term 'cvr' on a batch without a click", "nan"),
    (Rounded, "a finite loss term 'ctr' on logits of +-50", "nan"),
    (Steep, "a finite gradient of the loss term 'ctr' on logits of +-200", "entries that are not, while its value is"),
    (Forgetful, "a finite loss term 'cvr' on a batch without a click", "nan"),
    (Lonely, "a finite loss term 'cvr' on a batch of one row (click 0, conversion 0, action 0)", "nan"),
]


class Counting(Naive):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def loss(self, out, y):
        self.calls += 1
        return super().loss(out, y)


class CountingInPython(Naive):
    def __init__(self):
        super().__init__()
        self.settings = {"calls": [0]}

    def loss(self, out, y):
        self.settings["calls"][0] += 1
        return super().loss(out, y)


class Keeping(Naive):
    def loss(self, out, y):
        self.last = out
        return super().loss(out, y)


class Drawing(Naive):
    def loss(self, out, y):
        kept = (torch.rand_like(y.click) < 0.5).float()
        return {**super().loss(out, y), "cvr": (kept * y.click * bce(out.logits["cvr"], y.conversion)).mean()}


class DrawingElsewhere(Naive):
    def loss(self, out, y):
        noise = float(np.random.default_rng().random())
        return {**super().loss(out, y), "ctr": super().loss(out, y)["ctr"] + noise}


class Overwriting(Naive):
    needs = ("click", "conversion", "action")

    def loss(self, out, y):
        y.action.zero_()
        return super().loss(out, y)


PURITY = [
    (Counting, "loss() to change nothing of the objective", "it changed calls"),
    (CountingInPython, "loss() to change nothing of the objective", "it changed settings"),
    (Keeping, "loss() to change nothing of the objective", "it changed last"),
    (Drawing, "loss() to draw no random number", "torch's generator moved on"),
    (DrawingElsewhere, "the loss term 'ctr' of one batch to be the same twice", ", then "),
    (Overwriting, "loss() to leave what it is given as it was", "it changed y.action"),
]


class Leaking(ESMM):
    """Weights by a propensity that is not detached."""

    stops = {"ctr": ("cvr",), "cvr": ("ctr",)}

    def loss(self, out, y):
        weight = y.click / out.logits["ctr"].sigmoid().clamp(min=0.05)
        cvr = (weight * bce(out.logits["cvr"], y.conversion)).mean()
        return {"ctr": bce(out.logits["ctr"], y.click).mean(), "cvr": cvr}


class Sealed(Leaking):
    def loss(self, out, y):
        weight = y.click / propensity(out.logits["ctr"], 0.05)
        cvr = (weight * bce(out.logits["cvr"], y.conversion)).mean()
        return {"ctr": bce(out.logits["ctr"], y.click).mean(), "cvr": cvr}


class LeakingLate(Sealed):
    """The leak opens once the first batch is over."""

    def __init__(self):
        super().__init__()
        self.register_buffer("batches", torch.zeros(()))

    def loss(self, out, y):
        return Leaking.loss(self, out, y) if self.batches > 0 else super().loss(out, y)

    def after_batch(self, out, y, x):
        self.batches += 1


FAULTS = {
    "edge_batches": EDGES,
    "purity": PURITY,
    "stops": [
        (leak, "gradient of the loss term 'cvr' to be exactly 0 at the head 'ctr'", "entries up to 0.")
        for leak in (Leaking, LeakingLate)
    ],
}


def test_a_fault_fails_its_own_check(fault):
    fault()
