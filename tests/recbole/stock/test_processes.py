"""`recbole.quick_start.run(..., nproc=2)`: names are resolved in the processes it spawns."""

from __future__ import annotations

import socket

import pytest

pytestmark = [pytest.mark.stock_recbole, pytest.mark.slow]

RUN = """
import cvr_plugins
import torch
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

if __name__ == "__main__":
    from recbole.quick_start import run
    name, file, port = sys.argv[1:]
    sys.argv[1:] = []
    say(**run(name, None, [file], nproc=2, port=port))
"""

MODULES = {"Whim": "whim_models", "NISE": "cvr_plugins.recbole.models"}


@pytest.mark.parametrize("name", MODULES)
def test_spawned_processes_find_the_model(name, place, models):
    place.config(f"{name}-alone", **models[name], epochs=1, checkpoint_dir="saved-alone")
    # RecBole's processes race for making them, and the one that comes second fails.
    for folder in (f"log/{name}", "log_tensorboard", "saved-alone"):
        (place.folder / folder).mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    done = place.python(RUN, name.lower(), f"{name}-alone.yaml", port)
    for child in range(2):
        assert f'"child{child}": "{MODULES[name]}"' in done.stdout, done.stderr[-2000:]
    if name == "Whim":
        assert done.returncode == 0, done.stderr[-2000:]
        assert '"test_result"' in done.stdout
    else:
        assert "asks for several processes" in done.stderr
