"""Checks of state: what two models share, what is saved, copied and sent, and what a seed settles."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import pickle
import random
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvr_plugins.model import CVRModel
from cvr_plugins.testing._case import Case, difference, observed, seeded, training_batch
from cvr_plugins.testing._check import check, expecting, require
from cvr_plugins.testing._training import Trainer
from cvr_plugins.testing.pretended_device import MixedDevicesError, PretendedDevice


@check(
    "sharing",
    "two models of the method share nothing",
    cause="a tensor or a module made once, at class or module level or as a default argument, instead of in __init__",
    requires=("training", "purity", "predictions"),
)
def sharing(case: Case) -> None:
    """Storages of both, and one while the other is trained."""
    trainer, _ = case.trained()
    first, second = trainer.model, case.model(seed=1)
    apart = first.objective is not second.objective
    require(apart, "Method.objective to make a new Objective each time", "the same object twice")
    shared = _shared(first, second)
    require(not shared, "tensors of its own for each model", f"both have {shared} in one memory")
    batch = training_batch(12)
    before = observed(second, batch)
    trainer.step(training_batch(7))
    trainer.end_epoch(2)
    changed = difference(before, observed(second, batch))
    require(not changed, "training one model to leave another as it was", f"it changed: {changed}")


@check(
    "device",
    "every tensor that a model keeps is a parameter or a buffer, which follow it to its device, where it trains",
    cause="self.x = torch.tensor(...) where self.register_buffer('x', torch.tensor(...)) is meant (with "
    "persistent=False if it is no state), or torch.zeros(n) where torch.zeros(n, device=logits.device) is",
    requires=("training", "purity", "predictions"),
)
def device(case: Case) -> None:
    """Attributes of all modules; and a step on the GPU, a pretended one where there is none."""
    trainer, _ = case.trained()
    for part in filter(None, (trainer.model.objective, trainer.model.architecture, trainer.model.weighting)):
        for prefix, module in part.named_modules():
            for name, value in vars(module).items():
                kept = name in ("_parameters", "_buffers", "_modules") or not _holds_tensor(value, set())
                path = f"{type(part).__name__}.{prefix + '.' if prefix else ''}{name}"
                require(kept, "tensors in parameters and buffers alone", f"one in {path}")
    expected = "loss, after_batch and predict to make their tensors on the device of what they are given"
    pretended = contextlib.nullcontext() if torch.cuda.is_available() else PretendedDevice()
    with expecting(expected, (MixedDevicesError,)), pretended:
        step_on(case, "cuda")


@check(
    "seed",
    "training twice from one seed gives one model, to the last bit",
    cause="random numbers from numpy or random, which a run does not seed, or from a generator without a seed; draw "
    "from torch, or from a generator made of a seed option",
    requires=("sharing",),
)
def seed(case: Case) -> None:
    """Two trainings, the other libraries' generators in different states."""
    found = []
    for number in (0, 1):
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002 - the global generator is what is looked for
        trainer, _ = case.trained(seed=5)
        found.append(observed(trainer.model, training_batch(13)))
    differing = difference(*found)
    require(not differing, "the same model from the same seed", f"these differ: {differing}")


@check(
    "state_dict",
    "a model restored from its saved state goes on as the saved one does",
    cause="state kept as an attribute where a buffer is meant, or something in the state that is no tensor",
    requires=("seed",),
)
def state_dict(case: Case) -> None:
    """Save as a run does, load into a new model, and train both on."""
    trainer, replaced = case.trained()
    if replaced:
        # What an epoch's end made of the parameters does not fit a new model.
        trainer, _ = case.trained(ends=False)
    file = io.BytesIO()
    torch.save(trainer.model.state_dict(), file)
    file.seek(0)
    fresh = case.model(seed=6)
    with expecting("the saved state of a trained model to be loaded into a new one"):
        fresh.load_state_dict(torch.load(file, weights_only=True))
    _require_same_future(trainer.model, fresh, "the one restored from its state", ends=not replaced)


@check(
    "pickle",
    "a pickled model comes back as it was, state included",
    cause="a lambda, a local function, an open file or a lock kept as an attribute, or a class made inside a function",
    requires=("seed",),
)
def pickled(case: Case) -> None:
    """Through bytes and back, then train both on."""
    model = case.trained()[0].model
    with expecting("a model that can be pickled"):
        twin = pickle.loads(pickle.dumps(model))  # noqa: S301 - made a moment ago, by this process
    _require_same_future(model, twin, "its pickled twin")


@check(
    "deepcopy",
    "a deep copy of a model is a model of its own, state included",
    cause="a __deepcopy__ that returns self or leaves something out, or an attribute that cannot be copied",
    requires=("seed",),
)
def deepcopied(case: Case) -> None:
    """Copy, look for shared memory, then train both on."""
    model = case.trained()[0].model
    with expecting("a model that can be copied"):
        twin = copy.deepcopy(model)
    shared = _shared(model, twin)
    require(not shared, "a copy with tensors of its own", f"it shares {shared} with the original")
    require(twin.objective is not model.objective, "a copy with an objective of its own", "that of the original")
    _require_same_future(model, twin, "its deep copy")


def _require_same_future(first: CVRModel, second: CVRModel, who: str, *, ends: bool = True) -> None:
    """Compare two models as they are, and after further batches and an epoch's end."""
    batch = training_batch(13)
    differing = difference(observed(first, batch), observed(second, batch))
    require(not differing, f"a model and {who} to be the same", f"these differ: {differing}")
    for model in (first, second):
        seeded(4)
        trainer = Trainer(model)
        trainer.step(training_batch(14))
        if ends:
            trainer.end_epoch(2)
        trainer.step(training_batch(15))
    differing = difference(observed(first, batch), observed(second, batch))
    require(not differing, f"a model and {who} to go on the same", f"later these differ: {differing}")


def _shared(first: CVRModel, second: CVRModel) -> str:
    """Return the name of a tensor of `second` whose memory is `first`'s too, "" if there is none."""
    taken = set(_memory(first).values())
    return next((name for name, address in _memory(second).items() if address in taken), "")


def _memory(model: CVRModel) -> dict[str, int]:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.untyped_storage().data_ptr() for name, tensor in tensors if tensor.numel()}


def _holds_tensor(value: Any, seen: set[int]) -> bool:
    if isinstance(value, Tensor):
        return True
    if isinstance(value, (nn.Module, type, ModuleType)) or inspect.isroutine(value) or id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, dict):
        return any(_holds_tensor(item, seen) for item in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_holds_tensor(item, seen) for item in value)
    return any(_holds_tensor(item, seen) for item in getattr(value, "__dict__", {}).values())


def step_on(case: Case, device: str) -> None:
    """Move a model that has state to a device, train it there and predict."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        model = case.trained()[0].model.to(device)
        trainer = Trainer(model)
        for number in (7, 8):
            trainer.step(training_batch(number).to(device))
        trainer.end_epoch(2)
        with torch.no_grad():
            predicted = model.eval().predict(training_batch(9).to(device).x)
        for task, values in predicted.items():
            require(values.device.type == device, f"predictions on {device}", f"task {task!r} on {values.device}")
