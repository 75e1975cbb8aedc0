"""A whole run on another device than the CPU: loader, training, watching, predicting, saving."""

from __future__ import annotations

import pytest
import torch

from cvr_plugins.rechub import run
from cvr_plugins.testing import PretendedDevice


@pytest.fixture
def pretended_gpu(monkeypatch):
    # torch.random.fork_rng asks the device's generator, which a pretended one has not.
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.empty(0))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    return PretendedDevice()


@pytest.mark.parametrize("name", ["IdeFN", "AdapSL"], ids=["a memory", "replaced parameters"])
def test_a_run_there_finds_what_one_on_the_cpu_does(shop, tmp_path, pretended_gpu, monkeypatch, name):
    devices, step = [], torch.optim.Adam.step

    def recorded(self, *args, **kwargs):
        devices.append({parameter.device.type for group in self.param_groups for parameter in group["params"]})
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    config = {**shop.config, "model": name, "ACTION_FIELD": "cart", "epochs": 1}
    expected = run({**config, "device": "cpu"}, folder=tmp_path / "cpu")
    with pretended_gpu:
        found = run({**config, "device": "cuda"}, folder=tmp_path / "gpu")
    assert devices == [{"cpu"}] * (len(devices) // 2) + [{"cuda"}] * (len(devices) // 2)
    assert devices
    assert found.report.values == expected.report.values
