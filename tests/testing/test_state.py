"""Methods whose state is lost, shared, left behind or drawn anew."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import torch

from cvr_plugins.objectives import Naive


class Remembering(Naive):
    """A running mean of clicks, which the loss is scaled by; in order."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((), 0.5))

    def loss(self, out, y):
        return {name: term * (1 + self.mean) for name, term in super().loss(out, y).items()}

    def after_batch(self, out, y, x):
        self.mean.mul_(0.9).add_(0.1 * y.click.mean())


SCALE = torch.ones(())


class SharedBuffer(Naive):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", SCALE)


class SharedList(Naive):
    seen = []

    def loss(self, out, y):
        return {name: term * (1 + len(self.seen) / 1000) for name, term in super().loss(out, y).items()}

    def after_batch(self, out, y, x):
        self.seen.append(1)


@functools.cache
def one_for_all():
    """Take no options."""
    return Naive()


SHARING = [
    (SharedBuffer, "tensors of its own for each model", "both have objective.scale in one memory"),
    (SharedList, "training one model to leave another as it was", "it changed: loss term 'ctr', loss term 'cvr'"),
    (one_for_all, "Method.objective to make a new Objective each time", "the same object twice"),
]


class LooseTensor(Naive):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(())

    def loss(self, out, y):
        return {name: term * self.scale for name, term in super().loss(out, y).items()}


class Holder:
    def __init__(self):
        self.parts = {"a": [torch.ones(3)]}


class HiddenTensor(Naive):
    def __init__(self):
        super().__init__()
        self.holder = Holder()


class LeftBehind(Naive):
    """Makes a tensor where torch makes them by default."""

    def loss(self, out, y):
        weight = torch.ones(len(y.click))
        clicked = (weight * y.click).mean()
        return {name: term * clicked for name, term in super().loss(out, y).items()}


class Moody(Remembering):
    """Draws from a generator without a seed at each epoch's end."""

    def on_epoch_end(self, epoch):
        self.mean.fill_(float(np.random.default_rng().random()))
        return False


class Global(Remembering):
    """Draws from numpy's own generator, which a run does not seed."""

    def on_epoch_end(self, epoch):
        self.mean.fill_(float(np.random.random()))  # noqa: NPY002 - that is the fault
        return False


class Seeded(Remembering):
    """Draws from torch; in order."""

    def on_epoch_end(self, epoch):
        self.mean.copy_(torch.rand(()))
        return False


class AsFloat(Naive):
    """Keeps its running mean where no state is saved."""

    def __init__(self):
        super().__init__()
        self.mean = 0.5

    def loss(self, out, y):
        return {name: term * (1 + self.mean) for name, term in super().loss(out, y).items()}

    def after_batch(self, out, y, x):
        self.mean = 0.9 * self.mean + 0.1 * y.click.mean().item()


class CountingEpochs(Naive):
    """What was not saved shows at the next end of an epoch only."""

    def __init__(self):
        super().__init__()
        self.epochs = 0
        self.register_buffer("scale", torch.ones(()))

    def loss(self, out, y):
        return {name: term * self.scale for name, term in super().loss(out, y).items()}

    def on_epoch_end(self, epoch):
        self.epochs += 1
        if self.epochs == 3:
            self.scale.fill_(2.0)
        return False


class Growing(Naive):
    """A memory that a new model has no room for."""

    def __init__(self):
        super().__init__()
        self.register_buffer("clicks", torch.zeros(0))

    def after_batch(self, out, y, x):
        self.clicks = torch.cat([self.clicks, y.click])


class Extra(Naive):
    """Saves something that is no tensor."""

    def get_extra_state(self):
        return Fraction(1, 3)

    def set_extra_state(self, state):
        assert state == Fraction(1, 3)


STATE = [
    (AsFloat, "a model and the one restored from its state to be the same", "these differ: loss term 'ctr', loss term"),
    (CountingEpochs, "to go on the same", "later these differ: "),
    (Growing, "the saved state of a trained model to be loaded into a new one", "size mismatch for objective.clicks"),
    (Extra, "the saved state of a trained model to be loaded into a new one", "Weights only load failed"),
]


class Replacing(Naive):
    """Replaces its own parameter by one of another shape at each epoch's end; in order."""

    def __init__(self):
        super().__init__()
        self.scales = torch.nn.Parameter(torch.ones(1))

    def loss(self, out, y):
        return {name: term * self.scales.square().mean() for name, term in super().loss(out, y).items()}

    def on_epoch_end(self, epoch):
        self.scales = torch.nn.Parameter(torch.ones(len(self.scales) + 1))
        return True


class WithLambda(Naive):
    def __init__(self):
        super().__init__()
        self.scale = lambda term: term

    def loss(self, out, y):
        return {name: self.scale(term) for name, term in super().loss(out, y).items()}


class ForgettingInPickle(AsFloat):
    """A running mean that is saved, and left out of the pickle."""

    def get_extra_state(self):
        return torch.tensor(self.mean, dtype=torch.float64)

    def set_extra_state(self, state):
        self.mean = state.item()

    def __getstate__(self):
        return {**self.__dict__, "mean": 0.5}

    def __deepcopy__(self, memo):
        twin = type(self)()
        memo[id(self)] = twin
        twin.mean = self.mean
        return twin


PICKLE = [
    (WithLambda, "a model that can be pickled", "<lambda>"),
    (ForgettingInPickle, "a model and its pickled twin to be the same", "these differ: loss term 'ctr'"),
]


class Itself(Naive):
    def __deepcopy__(self, memo):
        return self


class SharingCopy(Remembering):
    def __deepcopy__(self, memo):
        twin = type(self)()
        memo[id(self)] = twin
        twin.mean = self.mean
        return twin


class ForgettingCopy(Remembering):
    def __deepcopy__(self, memo):
        memo[id(self)] = twin = type(self)()
        return twin


class Uncopied(Naive):
    def __deepcopy__(self, memo):
        raise RuntimeError("Uncopied holds a connection.")


DEEPCOPY = [
    (Itself, "a copy with an objective of its own", "that of the original"),
    (SharingCopy, "a copy with tensors of its own", "it shares objective.mean with the original"),
    (ForgettingCopy, "a model and its deep copy to be the same", "these differ: loss term 'ctr', loss term 'cvr'"),
    (Uncopied, "a model that can be copied", "RuntimeError: Uncopied holds a connection. ("),
]


class Unknown(Naive):
    """Marks what it does not know yet, as some weightings do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.full((2,), math.nan))

    def after_batch(self, out, y, x):
        self.last[0] = y.click.mean()


FAULTS = {
    "sharing": SHARING,
    "device": [
        (LooseTensor, "tensors in parameters and buffers alone", "one in LooseTensor.scale"),
        (HiddenTensor, "tensors in parameters and buffers alone", "one in HiddenTensor.holder"),
    ],
    "seed": [
        (moody, "the same model from the same seed", "prediction 'cvr', prediction 'ctr'") for moody in (Moody, Global)
    ],
    "state_dict": STATE,
    "pickle": PICKLE,
    "deepcopy": DEEPCOPY,
}
if not torch.cuda.is_available():  # a GPU says it in its own words
    mixed = "MixedDevicesError: aten.mul.Tensor: a tensor of shape (64,) on the cpu meets one on"
    FAULTS["device"].append((LeftBehind, "to make their tensors on the device of what they are given", mixed))
SOUND = [(objective, ["training", *FAULTS]) for objective in (Remembering, Seeded, Replacing, Unknown)]


def test_a_fault_fails_its_own_check(fault):
    SharedList.seen.clear()
    fault()


def test_what_is_in_order_passes(sound):
    sound()
