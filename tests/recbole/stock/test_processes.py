"""`recbole.quick_start.run(..., nproc=2)`: names are resolved in the processes it spawns."""

from __future__ import annotations

import socket

import pytest

pytestmark = [pytest.mark.stock_recbole, pytest.mark.slow]

RUN = """
import os
import cvr_plugins
import torch
{devices}

if __name__ == "__main__":
    from recbole.quick_start import run
    name, file, port = sys.argv[1:]
    sys.argv[1:] = []
    result = run(name, None, [file], nproc=2, port=port)
    say(**result)
"""

ON_CPU = """
from recbole.config import Config
from recbole.trainer import trainer

def join_on_cpu(self):
    # What RecBole does for GPUs with nccl, the only way it knows.
    values = self.final_config_dict
    values["device"], values["single_spec"] = torch.device("cpu"), "local_rank" not in values
    if not values["single_spec"]:
        address = f"tcp://{values['ip']}:{values['port']}"
        torch.distributed.init_process_group(
            "gloo", rank=values["local_rank"], world_size=values["world_size"], init_method=address
        )
        say(**{f"child{values['local_rank']}": self.model_class.__module__})

def wrapped(model, device_ids, wrap=trainer.DistributedDataParallel):
    return wrap(model)

Config._init_device = join_on_cpu
trainer.DistributedDataParallel = wrapped
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


MODULES = {
    "Whim": "whim_models",
    "PARS": "cvr_plugins.recbole.sequential.pars",
    "MaskedRec": "cvr_plugins.recbole.sequential.masked_rec",
    "NISE": "cvr_plugins.recbole.models",
}
OURS = ("PARS", "MaskedRec", "NISE")


def test_spawned_processes_find_the_model(place, model):
    file = place.config(**{**model.keys, "epochs": 1})
    # RecBole's processes race for making them, and the one that comes second fails.
    for folder in (f"log/{model.name}", "log_tensorboard", "saved"):
        (place.folder / folder).mkdir(parents=True, exist_ok=True)
    done = place.python(RUN.format(devices=ON_CPU), model.name.lower(), file, free_port())
    for child in range(2):
        assert f'"child{child}": "{MODULES[model.name]}"' in done.stdout, done.stderr[-2000:]
    if model.name in OURS:
        assert "asks for several processes" in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-2000:]
        assert '"test_result"' in done.stdout


def test_without_gpus_it_is_nccl_that_fails_and_not_the_name(place):
    import torch

    if torch.cuda.device_count() > 1:
        pytest.skip("there are GPUs for it")
    done = place.python(RUN.format(devices=""), "Whim", place.config(dataset="ml-100k"), free_port())
    assert done.returncode != 0
    assert "No module named" not in done.stderr
    assert "init_process_group" in done.stderr or "nproc" in done.stderr
