"""What a run of RecBole's models on ml-100k comes to: `python figures.py stock|ours`, printed as JSON.

`stock` runs RecBole's own quick_start.run_recbole and needs the older packages (extra `stock-recbole`) and
TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1; `ours` runs cvr_plugins.recbole.run_recbole. Equal are to be: the interactions
after all filters, the initial weights, and the test metrics.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile

SHORT = {
    "MAX_ITEM_LIST_LENGTH": 10,
    "hidden_size": 16,
    "inner_size": 16,
    "n_layers": 1,
    "train_neg_sample_args": None,
    "learning_rate": 0.01,
    "train_batch_size": 1024,
}
RANKED = {"epochs": 2, "topk": [10, 500]}
SETTINGS = {
    "BPR": RANKED,
    "LightGCN": RANKED,
    "SASRec": {**RANKED, **SHORT},
    "BERT4Rec": {**RANKED, **SHORT},
    "DeepFM": {"epochs": 2, "threshold": {"rating": 4}},
}
EVERY = {
    "user_inter_num_interval": "[300,inf)",
    "metric_decimal_place": 6,
    "show_progress": False,
    "gpu_id": "",
    "state": "ERROR",
    "checkpoint_dir": "saved",
}


def figures(which: str, model: str) -> dict:
    """Run a model and return the figures."""
    import torch

    torch.set_num_threads(1)
    found = {}
    if which == "stock":
        from recbole.quick_start import quick_start as home
        from recbole.quick_start import run_recbole
    else:
        from cvr_plugins.recbole import run_recbole
        from cvr_plugins.recbole.running import training as home
    create, get = home.create_dataset, home.get_trainer

    def create_dataset(config):
        dataset = create(config)
        columns = dataset.inter_feat
        names = sorted(columns.columns)
        found["data"] = _digest((name, columns[name].to_numpy()) for name in names)
        return dataset

    def get_trainer(*args):
        trainer = get(*args)

        class Watched(trainer):
            def __init__(self, config, model):
                found["weights"] = _digest((name, each.numpy()) for name, each in sorted(model.state_dict().items()))
                super().__init__(config, model)

        return Watched

    home.create_dataset, home.get_trainer = create_dataset, get_trainer
    result = run_recbole(model=model, dataset="ml-100k", config_dict={**EVERY, **SETTINGS[model]})
    return {**found, "test": {name: float(value) for name, value in result["test_result"].items()}}


def _digest(arrays) -> str:
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(name.encode())
        if array.dtype == object:
            digest.update(json.dumps([each.tolist() for each in array]).encode())
        else:
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.argv, which = sys.argv[:1], sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print(json.dumps({model: figures(which, model) for model in SETTINGS}, indent=1))
        os.chdir("/")
