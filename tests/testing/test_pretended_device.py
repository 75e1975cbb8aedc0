"""A pretended GPU computes what the CPU does and refuses to mix with it, as a GPU would."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cvr_plugins.plugins import registry
from cvr_plugins.testing import MixedDevicesError, PretendedDevice
from cvr_plugins.testing._case import Case, training_batch
from cvr_plugins.testing._training import Trainer
from cvr_plugins.testing.pretended_device import GPU


@pytest.fixture
def away():
    with PretendedDevice():
        yield torch.arange(6.0).reshape(2, 3).to("cuda")


def on_gpu(values: torch.Tensor) -> bool:
    return values.device == GPU and values.is_cuda and not values.is_cpu


def test_moves_there_and_back(away):
    assert on_gpu(away)
    assert on_gpu(torch.ones(2).cuda())
    assert on_gpu(torch.ones(2).to(away))
    assert away.to("cuda") is away
    assert away.to(torch.float64).dtype == torch.float64
    assert on_gpu(away.to(torch.float64))
    moved = torch.ones(2).to("cuda", torch.float64, non_blocking=True)
    assert on_gpu(moved)
    assert moved.dtype == torch.float64
    assert torch.ones(2).to(device="cuda", dtype=torch.int64).dtype == torch.int64
    for back in (away.cpu(), away.to("cpu"), away.to(device="cpu")):
        assert back.device.type == "cpu"
        assert torch.equal(back, torch.arange(6.0).reshape(2, 3))
    assert torch.ones(2).cpu().device.type == "cpu"


def test_moving_copies(away):
    away.cpu().zero_()
    assert away.sum().item() == 15.0


@pytest.mark.parametrize(
    "make",
    [
        lambda away: torch.zeros(2, device="cuda"),
        lambda away: torch.arange(3, device=away.device),
        lambda away: torch.tensor([1, 2], device=away.device),
        lambda away: torch.rand(2, device=away.device),
        lambda away: torch.randint(0, 3, (2,), device=away.device),
        torch.zeros_like,
        lambda away: away.new_zeros(2),
        lambda away: away.T @ away,
        lambda away: away[0],
        lambda away: away[away > 2],
        lambda away: torch.cat([away, away]),
        lambda away: away.sort().values,
        lambda away: away.nonzero(),
        lambda away: torch.where(away > 2, away, 0.0),
    ],
)
def test_results_and_new_tensors_are_there(away, make):
    assert on_gpu(make(away))


def test_gradients_asked_for_in_making_are_kept(away):
    made = torch.zeros(2, device="cuda", requires_grad=True)
    assert made.requires_grad
    (made * 2).sum().backward()
    assert on_gpu(made.grad)


@pytest.mark.parametrize(
    "mix",
    [
        lambda away: away + torch.ones(3),
        lambda away: torch.ones(3) + away,
        lambda away: away @ torch.ones(3, 2),
        lambda away: torch.cat([away, torch.ones(1, 3)]),
        lambda away: torch.where(away > 2, away, torch.zeros(3)),
        lambda away: torch.ones(3).index_select(0, away[0].long()),
        lambda away: torch.ones(6)[away.long()],
        lambda away: nn.Embedding(9, 2)(away.long()),
        lambda away: nn.functional.binary_cross_entropy_with_logits(away, torch.ones(2, 3)),
        lambda away: away.masked_fill_(torch.ones(2, 3, dtype=torch.bool), 0.0),
    ],
)
def test_a_tensor_of_the_cpu_is_refused(away, mix):
    with pytest.raises(MixedDevicesError, match=r"aten\..*: a tensor of shape \(.*\) on the cpu meets one on cuda:0"):
        mix(away)


def test_what_a_gpu_takes_from_the_cpu_is_taken(away):
    assert on_gpu(away + torch.tensor(2.0))
    assert on_gpu(away[torch.tensor([1])])
    away[torch.tensor([0])] = 0.0
    away[1].copy_(torch.ones(3))
    assert away.tolist() == [[0.0] * 3, [1.0] * 3]
    here = torch.zeros(2, 3)
    here.copy_(away)
    assert here.device.type == "cpu"
    assert here.sum() == 3


def test_numpy_is_refused(away):
    with pytest.raises(TypeError, match=r"use Tensor\.cpu\(\) first"):
        away.numpy()


def test_gradients_flow_through_a_move():
    with PretendedDevice():
        start = torch.tensor([1.0, 2.0], requires_grad=True)
        (start.cuda() ** 2).cpu().sum().backward()
    assert start.grad.tolist() == [2.0, 4.0]
    assert start.grad.device.type == "cpu"


def test_modules_move_with_parameters_buffers_and_state():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(module.state_dict())
    with PretendedDevice():
        assert module.to("cuda") is module
        assert all(map(on_gpu, (*module.parameters(), *module.buffers())))
        assert all(isinstance(parameter, nn.Parameter) for parameter in module.parameters())
        twin = copy.deepcopy(module)
        module(torch.ones(4, 3).cuda()).sum().backward()
        assert all(on_gpu(parameter.grad) for parameter in module.parameters())
        assert twin[0].weight.grad is None
        module.load_state_dict(before)
        module.cpu()
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in module.parameters())


def test_nothing_is_left_of_it_afterwards():
    with PretendedDevice():
        torch.ones(2).cuda()
    assert type(torch.zeros(2)) is torch.Tensor
    assert not torch.cuda.is_available() or torch.ones(1).cuda().is_cuda


def trained(weighting: str, device: str) -> dict[str, torch.Tensor]:
    """Everything a model saves and predicts after two steps and an epoch's end on a device, with state of before."""
    model = Case(registry().method("IdeFN"), {"weighting": weighting}).trained()[0].model.to(device)
    trainer = Trainer(model)
    for number in (7, 8):
        trainer.step(training_batch(number).to(device))
    trainer.end_epoch(2)
    with torch.no_grad():
        predicted = model.eval().predict(training_batch(9).to(device).x)
    assert all(values.device.type == device for values in (*predicted.values(), *model.state_dict().values()))
    return {key: values.cpu() for key, values in (*predicted.items(), *model.state_dict().items())}


@pytest.mark.parametrize("weighting", [entry.name for entry in registry().entries("weighting")])
def test_a_method_of_much_state_trains_there_as_on_the_cpu_with_every_weighting(weighting):
    expected = trained(weighting, "cpu")
    with PretendedDevice():
        found = trained(weighting, "cuda")
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values, rtol=0, atol=0, equal_nan=True, msg=key)
