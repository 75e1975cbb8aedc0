"""MaskedRec beside RecBole's BERT4Rec: time of an epoch, and NDCG@10 after equally many, on ml-100k.

    OMP_NUM_THREADS=1 python examples/benchmarks/masked_rec.py [--epochs N] [--seeds N] [--hidden N] [--length N]

Both in one process, their epochs in turn (A B A B). Equal for both: RecBole's protocol (the last event of every user is
the test target, the last but one left to validation, full ranking), the events and their order, hidden size, layers,
heads, dropout, optimiser, learning rate, batch size, mask ratio, share of last-item samples, maximal length, epochs.

An epoch is one pass over the training loader as RecBole's trainer makes it: fetching, masking, forward, backward and
optimiser, without evaluation. BERT4Rec and MaskedRec with `augmentation: prefixes` have a row for every prefix of a
user's sequence, and as many steps in an epoch; `augmentation: sessions` has one row per user, and is trained for as
many epochs as make up about the same number of steps: its epochs are not comparable, its NDCG@10 per second is.
The model evaluated is that after the last epoch. ml-100k: the copy in the recbole wheel, sorted by time, since RecBole
keeps times in float32 and so leaves events less than a minute apart in the order of the file.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.model.sequential_recommender.bert4rec import BERT4Rec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from rich.console import Console
from rich.table import Table

from cvr_plugins.recbole.running.config import Config
from cvr_plugins.recbole.sequential import MaskedRec, SessionDataset, SessionTrainer

NAME = "ml-100k-by-time"
SETTINGS: dict[str, Any] = {
    "USER_ID_FIELD": "user_id",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dropout_prob": 0.2,
    "attn_dropout_prob": 0.2,
    "mask_ratio": 0.2,
    "ft_ratio": 0.5,
    "learner": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "train_neg_sample_args": None,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["NDCG", "Hit", "MRR"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "eval_batch_size": 256,
    "show_progress": False,
}
KINDS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "BERT4Rec": (BERT4Rec, SequentialDataset, Trainer, {"loss_type": "CE"}),
    "MaskedRec": (MaskedRec, SessionDataset, SessionTrainer, {"augmentation": "prefixes"}),
    "MaskedRec, one row per user": (MaskedRec, SessionDataset, SessionTrainer, {"augmentation": "sessions"}),
}


class Run:
    """A model, its data and its trainer."""

    def __init__(self, kind: str, folder: Path, seed: int, sizes: Mapping[str, int]) -> None:
        model, dataset, trainer, options = KINDS[kind]
        given = {"data_path": str(folder), "checkpoint_dir": str(folder), "seed": seed, **sizes}
        config = Config(model, NAME, config_dict={**SETTINGS, **options, **given})
        init_seed(seed, True)
        self.train, _, self.test = data_preparation(config, dataset(config))
        self.model = model(config, self.train._dataset).to(config["device"])
        self.trainer = trainer(config, self.model)
        self.trainer.eval_collector.data_collect(self.train)
        self.seconds: list[float] = []
        self.epoch = 0

    def train_epoch(self) -> None:
        """Train an epoch and take its time."""
        began = time.process_time()
        # The trainer of BERT4Rec is RecBole's own; SessionTrainer would write checkpoints from `fit` alone.
        self.trainer._keeps = False
        self.trainer._train_epoch(self.train, self.epoch)
        self.seconds.append(time.process_time() - began)
        self.epoch += 1

    def ndcg(self) -> float:
        """NDCG@10 on the test targets."""
        return float(self.trainer.evaluate(self.test, load_best_model=False)["ndcg@10"])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=64, help="hidden size; the inner size is four times that")
    parser.add_argument("--length", type=int, default=50, help="events of a sequence at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without-sessions", action="store_true", help="leave out the one row per user")
    parser.add_argument("--users", type=int, default=None, help="keep this many users, for a trial")
    parser.add_argument("--every", type=int, default=None, help="show NDCG@10 after every so many epochs")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.filterwarnings("ignore")
    # A module of RecBole's turns it on when imported. Off for both, it favours neither.
    torch.autograd.set_detect_anomaly(False)
    sizes = {
        "train_batch_size": chosen.batch,
        "hidden_size": chosen.hidden,
        "inner_size": 4 * chosen.hidden,
        "MAX_ITEM_LIST_LENGTH": chosen.length,
    }
    kinds = list(KINDS)[: 2 if chosen.without_sessions else 3]
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    quality: dict[str, list[float]] = {kind: [] for kind in kinds}
    epochs: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        # RecBole's trainers write a log for tensorboard into the working directory.
        os.chdir(folder)
        write_by_time(Path(folder), chosen.users)
        for seed in range(chosen.seeds):
            runs = {kind: Run(kind, Path(folder), seed, sizes) for kind in kinds}
            steps = max(len(run.train) for run in runs.values())
            for epoch in range(chosen.epochs):
                for run in runs.values():
                    for _ in range(round(steps / len(run.train))):
                        run.train_epoch()
                if chosen.every and (epoch + 1) % chosen.every == 0:
                    shown = ", ".join(f"{kind} {run.ndcg():.4f}" for kind, run in runs.items())
                    print(f"seed {seed}, epoch {epoch + 1}: {shown}", flush=True)
            for kind, run in runs.items():
                times[kind] += run.seconds[1:] or run.seconds
                quality[kind].append(run.ndcg())
                epochs[kind] = run.epoch
    report(times, quality, epochs, chosen)


def write_by_time(folder: Path, users: int | None) -> None:
    """Write ml-100k's interactions in order of time."""
    spec = importlib.util.find_spec("recbole")
    assert spec is not None
    assert spec.submodule_search_locations
    shipped = Path(spec.submodule_search_locations[0]) / "dataset_example" / "ml-100k" / "ml-100k.inter"
    frame = pd.read_csv(shipped, sep="\t").sort_values("timestamp:float", kind="stable")
    if users is not None:
        frame = frame[frame["user_id:token"].isin(frame["user_id:token"].unique()[:users])]
    (folder / NAME).mkdir()
    frame.to_csv(folder / NAME / f"{NAME}.inter", sep="\t", index=False)


def report(
    times: dict[str, list[float]], quality: dict[str, list[float]], epochs: dict[str, int], chosen: argparse.Namespace
) -> None:
    """Print the table."""
    table = Table("model", "epochs", "s / epoch", "ratio", "NDCG@10", "of each seed")
    stock = statistics.median(times["BERT4Rec"])
    for kind, found in quality.items():
        spread = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
        seconds = statistics.median(times[kind])
        table.add_row(
            kind,
            str(epochs[kind]),
            f"{seconds:.2f}",
            f"{stock / seconds:.2f}",
            f"{statistics.mean(found):.4f}{spread}",
            " ".join(f"{each:.4f}" for each in found),
        )
    console = Console(width=120)
    console.print(table)
    console.print(
        "CPU seconds of an epoch, the median; ratio to BERT4Rec. ± is the standard deviation between seeds. "
        f"{chosen.threads} thread(s), batches of {chosen.batch}, hidden size {chosen.hidden}, sequences of "
        f"{chosen.length}, {chosen.seeds} seed(s)."
    )


if __name__ == "__main__":
    main()
