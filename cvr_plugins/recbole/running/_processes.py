"""RecBole's training in several processes, on GPUs (nccl) or CPUs (gloo)."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config as RecBoleConfig
from torch import distributed, multiprocessing, nn

from cvr_plugins.config import ConfigError

_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Group:
    """Processes that train together: how many here, how many in all (-1: these), where the first one listens."""

    nproc: int
    world_size: int = -1
    ip: str = "localhost"
    port: str | None = None
    offset: int = 0

    def keys(self) -> dict[str, Any]:
        """Return the keys of RecBole's configuration."""
        size = self.nproc if self.world_size < 1 else self.world_size
        if self.nproc < 1 or self.offset + self.nproc > size:
            raise ConfigError(
                f"nproc {self.nproc} from group_offset {self.offset} on do not go into a world_size of {size}."
            )
        port = self.port or _free_port()
        return {"world_size": size, "ip": self.ip, "port": str(port), "nproc": self.nproc, "offset": self.offset}


def spawn(
    group: Group,
    model: str | type | None,
    dataset: str | None,
    files: Sequence[str | Path] | None,
    config_dict: Mapping[str, Any] | None,
    saved: bool,
) -> dict[str, Any]:
    """Train in `group.nproc` new processes and return what the first one found, as the arguments of a RunResult.

    Raises ConfigError for a configuration that one process would refuse, RuntimeError if a process fails.
    """
    from cvr_plugins.recbole.running.config import Config

    keys = group.keys()
    # Here, where an error is one sentence, and the model's class can be given to processes that do not know its name.
    config = Config(model, dataset, files, config_dict)
    shared = {**(config_dict or {}), **keys}
    # Each process would see that it is missing, and all but one fail to make it.
    Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    arguments = (config.model_class, dataset, files, shared, saved, queue)
    try:
        multiprocessing.spawn(_work, args=arguments, nprocs=group.nproc, join=True)
    except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
        kind, _, reason = str(error).strip().splitlines()[-1].partition(": ")
        if kind.endswith("." + ConfigError.__name__):
            raise ConfigError(reason) from error
        raise RuntimeError(f"A training process failed: {kind}: {reason}") from error
    found: dict[str, Any] = {} if queue.empty() else queue.get()
    return {**found, "config": config}


def _work(
    rank: int,
    model: type,
    dataset: str | None,
    files: Sequence[str | Path] | None,
    config_dict: dict[str, Any],
    saved: bool,
    queue: Any,
) -> None:
    from cvr_plugins.recbole.compat.process_state import surroundings
    from cvr_plugins.recbole.running.config import Config
    from cvr_plugins.recbole.running.runner import _execute

    config = Config(model, dataset, files, {**config_dict, "local_rank": rank})
    try:
        with surroundings(config, log=None):
            result = _execute(config, saved=saved, ends_on_interrupt=False)
        if rank == 0:
            keys = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
            plain = {key: getattr(result, key) for key in keys}
            queue.put({**plain, "history": result.history, "stopped": result.stopped, "checkpoint": result.checkpoint})
    finally:
        distributed.destroy_process_group()


def join(values: dict[str, Any]) -> None:
    """Enter the process group that a configuration names, and put the device and what goes with it into its values."""
    rank, count = values["local_rank"], values["nproc"]
    gpus = [each.strip() for each in values["gpu_id"].split(",") if each.strip()]
    cuda = bool(gpus) and values.get("use_gpu", True) and torch.cuda.is_available()
    if cuda and len(gpus) < count:
        raise ConfigError(f"nproc {count} needs as many GPUs; gpu_id {values['gpu_id']!r} names {len(gpus)}.")
    device = torch.device("cuda", int(gpus[rank])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        backend="nccl" if cuda else "gloo",
        rank=rank + values["offset"],
        world_size=values["world_size"],
        init_method=f"tcp://{values['ip']}:{values['port']}",
        timeout=_PATIENCE,
    )
    values["single_spec"] = False
    values["device"] = device
    if rank != 0:
        values.update(state="error", show_progress=False, verbose=False)


@contextmanager
def on_its_device(config: RecBoleConfig, model: nn.Module) -> Iterator[None]:
    """Let RecBole's trainer wrap the model for several processes on any device; it takes a GPU for granted."""
    if config["single_spec"]:
        yield
        return
    from recbole.trainer import trainer

    device = config["device"]
    if device.type == "cpu" and any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()):
        raise ConfigError(
            f"{config['model']} normalises over batches, which several processes can do on GPUs only; set nproc to 1."
        )
    wrap = trainer.DistributedDataParallel

    def wrapped(model: nn.Module, device_ids: Sequence[int]) -> nn.Module:
        # RecBole adds the sum of all parameters to the loss for those that took no part; torch warns of none.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return wrap(model, device_ids=None if device.type == "cpu" else [device])

    trainer.DistributedDataParallel = wrapped
    try:
        yield
    finally:
        trainer.DistributedDataParallel = wrap


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port
