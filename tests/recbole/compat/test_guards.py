"""What RecBole would execute, unpickle or fetch: each place, what guards it, and each attack with and without that."""

from __future__ import annotations

import ast
import importlib
import os
import pickle
import re
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("recbole")

import recbole
from recbole.data import create_dataset

from cvr_plugins.cli._group import run as command_line
from cvr_plugins.config import ConfigError
from cvr_plugins.recbole import CheckpointError, Config, load_data_and_model, run
from cvr_plugins.recbole.compat import guards
from cvr_plugins.recbole.compat.finder import WATCHED
from cvr_plugins.training.manifest import seal

pytestmark = pytest.mark.usefixtures("elsewhere")

GUARDS = {
    "teacher": "guards: found by its name among three",
    "embeddings": "guards: NumPy's load without pickles, numbers alone",
    "weights": "guards: torch.load reads weights alone whatever the environment says; trainers read by SafeCheckpoints",
    "pickles": "guards: refused; our Config refuses the keys first, and looks where nothing is",
    "download": "guards: urlopen refuses; what is missing is said before",
    "config": "our Config has its own: literals, the bounded loader, RecBole's own files alone",
    "name": "looked up in the registry or among RecBole's files before, or one of RecBole's own constants",
    "attribute": "an attribute of RecBole's own object, never called; what a configuration adds to its name is checked",
    "table": "text read as a table, below the folder of the data set",
    "trees": "a library's own format: numbers, no code",
    "stock": "in RecBole's own quick_start, its tuning or its saving, which runs of ours never call",
    "asked": "sends what log_wandb asks to be sent, and fetches nothing",
}
"""Guard -> what it is."""

PLACES = {
    "config/configurator.py": {
        "open(file, 'r', encoding='utf-8')": "config",
        "yaml.FullLoader": "config",
        "yaml.load(f.read(), Loader=self.yaml_loader)": "config",
        "eval(param)": "config",
    },
    "data/dataset/customized_dataset.py": {"getattr(self, f'{field}_list_field')": "attribute"},
    "data/dataset/dataset.py": {
        "import pickle": "stock",
        "open(os.path.join(current_path, f'../../properties/dataset/{u": "config",
        "yaml.load(f.read(), Loader=self.config.yaml_loader)": "config",
        "open(filepath, 'r', encoding=encoding)": "table",
        "pd.read_csv(filepath, delimiter=field_separator, usecols=use": "table",
        "setattr(self, f'{suf}_feat', feat)": "attribute",
        "setattr(self, feat_name, self._dataframe_to_interaction(feat)": "attribute",
        "getattr(self, field_name, None)": "attribute",
        "getattr(self, feat_name)": "attribute",
        "getattr(self, feat_name, None)": "attribute",
        "getattr(self, name + '_feat')": "attribute",
        "getattr(self, feat_name + '_feat')": "attribute",
        "getattr(self, f'{suf}_feat', None)": "attribute",
        "getattr(self, f'{source}_feat')": "attribute",
        "open(file, 'wb')": "stock",
        "pickle.dump(self, f)": "stock",
        "exit(-1)": "download",
    },
    "data/dataset/decisiontree_dataset.py": {
        "getattr(self, feat_name)": "attribute",
        "setattr(self, feat_name, feat)": "attribute",
    },
    "data/dataset/kg_dataset.py": {"exit(0)": "download", "exit(-1)": "download"},
    "data/dataset/sequential_dataset.py": {
        "getattr(self, f'{field}_list_field')": "attribute",
        "setattr(self, f'{field}_list_field', list_field)": "attribute",
    },
    "data/utils.py": {
        "import pickle": "pickles",
        "import importlib": "name",
        "importlib.import_module('recbole.data.dataset')": "name",
        "getattr(dataset_module, config['model'] + 'Dataset')": "name",
        "getattr(dataset_module, type2class[model_type])": "name",
        "open(file, 'rb')": "pickles",
        "open(dataloaders_save_path, 'rb')": "pickles",
        "pickle.load(f)": "pickles",
        "open(file_path, 'wb')": "pickles",
        "pickle.dump(Serialization_dataloaders, f)": "pickles",
    },
    "evaluator/register.py": {"getattr(self, key)": "attribute", "setattr(self, info, True)": "attribute"},
    "evaluator/utils.py": {"getattr(np, method)": "stock"},
    "model/abstract_recommender.py": {"getattr(self, key)": "attribute", "setattr(self, key, value)": "weights"},
    "model/context_aware_recommender/eulernet.py": {"getattr(self, _)": "attribute"},
    "model/context_aware_recommender/kd_dagfm.py": {
        "eval(f\"{config['teacher']}\")": "teacher",
        "torch.load(config['warm_up'])": "weights",
    },
    "model/exlib_recommender/lightgbm.py": {"lgb.Booster(model_file=model_file)": "trees"},
    "model/exlib_recommender/xgboost.py": {"self.load_model(model_file)": "trees"},
    "model/general_recommender/convncf.py": {"torch.load(self.pre_model_path)": "weights"},
    "model/general_recommender/ldiffrec.py": {"np.load(emb_path, allow_pickle=True)": "embeddings"},
    "model/general_recommender/nais.py": {"torch.load(self.pretrain_path)": "weights"},
    "model/general_recommender/neumf.py": {
        "torch.load(self.mf_pretrain_path, map_location='cpu')": "weights",
        "torch.load(self.mlp_pretrain_path, map_location='cpu')": "weights",
    },
    "model/general_recommender/ract.py": {"torch.load(self.pre_model_path)": "weights"},
    "model/sequential_recommender/s3rec.py": {"torch.load(self.pre_model_path)": "weights"},
    "quick_start/quick_start.py": {
        "import ray": "stock",
        "import multiprocessing": "stock",
        "mp.spawn(run_recboles, args=(model, dataset, config_file_list": "stock",
        "torch.load(model_file)": "stock",
    },
    "trainer/hyper_tuning.py": {
        "import hyperopt": "stock",
        "open(file, 'r')": "stock",
        "open(output_file, 'w')": "stock",
        "eval(para_value)": "stock",
    },
    "trainer/trainer.py": {
        "torch.load(resume_file, map_location=self.device)": "weights",
        "torch.load(checkpoint_file, map_location=self.device)": "weights",
        "__import__('xgboost')": "trees",
        "__import__('lightgbm')": "trees",
        "self.model.load_model(checkpoint_file)": "trees",
        "self.lgb.Booster(model_file=checkpoint_file)": "trees",
    },
    "utils/url.py": {
        "import urllib": "download",
        "import zipfile": "download",
        "ur.urlopen(url)": "download",
        "zipfile.ZipFile(path, 'r')": "download",
        "f.extractall(folder)": "download",
        "open(path, 'wb')": "download",
        "input('This will download %.2fGB. Will you proceed? (y/N)\\n' ": "download",
    },
    "utils/utils.py": {
        "import importlib": "name",
        "importlib.import_module(module_path, __name__)": "name",
        "importlib.import_module('recbole.trainer')": "name",
        "getattr(model_module, model_name)": "name",
        "getattr(importlib.import_module('recbole.trainer'), model_name": "name",
    },
    "utils/wandblogger.py": {
        "import wandb": "asked",
        "self._wandb.init(project=self.config.wandb_project, config=sel": "asked",
    },
}
"""File of RecBole 1.2.1 -> what stands there that might execute, unpickle or fetch -> its guard."""

CODE = {"eval", "exec", "compile", "__import__"}
EXECUTING = CODE | {"input", "exit", "quit", "breakpoint", "open"}
BY_NAME = {"getattr", "setattr", "delattr"}
METHODS = {
    *("load", "loads", "load_model", "Booster", "memmap", "fromfile", "system", "popen", "startfile", "extractall"),
    *("urlopen", "urlretrieve", "import_module", "load_state_dict_from_url", "unpack_archive"),
}
BEGINNINGS = ("read_", "exec", "spawn", "fork")
MODULES = {
    *("pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "ctypes", "importlib", "runpy", "subprocess"),
    *("multiprocessing", "ray", "hyperopt", "urllib", "http", "socket", "ftplib", "requests", "zipfile", "tarfile"),
    *("shutil", "webbrowser", "wandb", "huggingface_hub", "gdown"),
}


def places(source: str) -> Iterator[str]:
    """What may execute, unpickle or fetch in a source: calls, and the modules that are for it."""
    tree = ast.parse(source)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            named = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {part}" for name in named for part in name.split(".") if part in MODULES)
        elif isinstance(node, ast.Name) and node.id in CODE | BY_NAME and id(node) not in called:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in ("FullLoader", "UnsafeLoader", "Loader"):
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and risky(node):
            yield ast.unparse(node)[:60].strip()


def risky(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        constant = len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
        return function.id in EXECUTING or (function.id in BY_NAME and not constant)
    if not isinstance(function, ast.Attribute):
        return False
    whose = ast.unparse(function.value)
    known = function.attr in METHODS or function.attr.startswith(BEGINNINGS)
    return known or (
        bool({"_wandb", *MODULES} & set(whose.split("."))) and function.attr in ("init", "ZipFile", "dump")
    )


def test_every_place_in_recbole_that_might_execute_or_fetch_is_listed_with_its_guard():
    root = Path(recbole.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        here = set(places(path.read_text(encoding="utf-8")))
        if here:
            found[path.relative_to(root).as_posix()] = here
    listed = {file: {text[:60].strip() for text in texts} for file, texts in PLACES.items()}
    assert found == listed
    assert {guard for texts in PLACES.values() for guard in texts.values()} == set(GUARDS)


HOSTILE = "__import__('pathlib').Path('executed').touch()"


class Evil:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def executed() -> bool:
    """Whether an attack has left its mark, which is removed."""
    found = Path("executed").exists()
    Path("executed").unlink(missing_ok=True)
    return found


def evil_weights(folder: Path) -> None:
    torch.save({"state_dict": Evil()}, "evil.pth")


def evil_embeddings(folder: Path) -> None:
    np.save(folder / "toy" / "item_emb.npy", np.array([Evil()], dtype=object), allow_pickle=True)


SEQUENTIAL = {"train_neg_sample_args": None, "hidden_size": 8, "inner_size": 8, "n_layers": 1, "load_col": None}
FINETUNE = {"train_stage": "finetune", "pre_model_path": "evil.pth"}
ATTACKS: dict[str, tuple[str, dict, Callable[[Path], None] | None, type[Exception], str]] = {
    "teacher": ("KD_DAGFM", {"teacher": f"{HOSTILE} or CrossNet"}, None, ConfigError, "one of 'CrossNet', 'CIN', 'DAG"),
    "embeddings": (
        "LDiffRec",
        {"n_cate": 2},
        evil_embeddings,
        ConfigError,
        "Save the items' embeddings with numpy.save",
    ),
    **{
        f"weights of {model}": (model, keys, evil_weights, CheckpointError, "refused, nothing of it was executed")
        for model, keys in {
            "KD_DAGFM": {"phase": "finetuning", "warm_up": "evil.pth"},
            "ConvNCF": {"train_method": "after_pretrain", "pre_model_path": "evil.pth"},
            "NAIS": {"pretrain_path": "evil.pth"},
            "NeuMF": {"use_pretrain": True, "mf_pretrain_path": "evil.pth", "mlp_pretrain_path": "evil.pth"},
            "RaCT": FINETUNE,
            "S3Rec": {**SEQUENTIAL, "item_attribute": "class", **FINETUNE},
        }.items()
    },
}
"""Attack -> model, keys, what writes the hostile file, and how it is refused."""


@pytest.fixture
def hostile(brief, ratings, tmp_path, monkeypatch):
    """Keys of a run on data of one's own, which may be spoilt, in an environment that lets torch unpickle anything."""
    shutil.copytree(ratings, tmp_path / "data")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    return {**brief, "data_path": str(tmp_path / "data"), "threshold": {"rating": 3}, "epochs": 1}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_recbole_executes_is_refused_by_a_run(attack, hostile, assemble):
    model, keys, write, kind, message = ATTACKS[attack]
    keys = {**hostile, **keys}
    if write is not None:
        write(Path(hostile["data_path"]))
    # The rest of what RecBole does with what it has executed matters to nobody.
    with suppress(Exception):
        assemble(model, keys)
    assert executed(), "without a guard the attack succeeds"
    with pytest.raises(kind, match=message):
        run(model, config_dict=keys)
    assert not executed()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_weights_that_a_trainer_or_a_model_reads_later_are_not_executed_either(hostile):
    evil_weights(Path())
    torch.load("evil.pth")
    assert executed()
    with guards.guarded(), pytest.raises(pickle.UnpicklingError):
        torch.load("evil.pth", weights_only=False)
    assert not executed()


def test_a_checkpoint_and_a_run_folder_cannot_name_a_teacher_that_is_code(hostile):
    result = run("KD_DAGFM", config_dict=hostile, out="run")
    for file in result.folder.rglob("*.pth"):
        content = torch.load(file, weights_only=True)
        content["config"]["teacher"] = ATTACKS["teacher"][1]["teacher"]
        torch.save(content, file)
    configuration = result.folder / "config.yaml"
    text = configuration.read_text().replace("CrossNet", f'"{HOSTILE} or CrossNet"')
    configuration.write_text(text)
    seal(result.folder)
    with pytest.raises(ConfigError, match="teacher must be one of"):
        load_data_and_model(result.folder)
    assert command_line(["run", "--resume", str(result.folder), "--out", "again"]) == 2
    assert not executed()


def test_the_teachers_that_recbole_has_are_found(hostile):
    for teacher, keys in (("CrossNet", {}), ("CIN", {}), ("DAGFM", {})):
        assert run("KD_DAGFM", config_dict={**hostile, "teacher": teacher, **keys}, saved=False).test_result


def test_embeddings_that_are_numbers_are_read_and_others_refused(hostile):
    place = Path(hostile["data_path"], "toy", "item_emb.npy")
    keys = {**hostile, "n_cate": 2}
    with pytest.raises(ConfigError, match="No such file or directory"):
        run("LDiffRec", config_dict=keys)
    np.save(place, np.array(["a", "b"]))
    with pytest.raises(ConfigError, match="it is no array of numbers"):
        run("LDiffRec", config_dict=keys)
    np.save(place, np.ones((40, 4), dtype=np.float32))
    # Past the file: what makes clusters of it is a package of its own.
    with pytest.raises(ConfigError, match="needs the package kmeans_pytorch"):
        run("LDiffRec", config_dict=keys)


@pytest.mark.parametrize("key", ["dataset_save_path", "dataloaders_save_path"])
def test_pickled_data_is_refused_where_recbole_reads_it(key, hostile):
    Path("evil.pth").write_bytes(pickle.dumps(Evil()))
    config = Config("BPR", config_dict=hostile)
    # As RecBole's own Config would have it; ours refuses the key.
    config.final_config_dict[key] = "evil.pth"

    def read() -> None:
        from recbole.data.utils import load_split_dataloaders

        create_dataset(config) if key.startswith("dataset") else load_split_dataloaders(config)

    with suppress(Exception):
        read()
    assert executed()
    with guards.guarded(), pytest.raises(ConfigError, match=r"'evil\.pth' is a pickled file"):
        read()
    assert not executed()


MISSING = {
    "benchmark_filename=[a,b,c]": r"holds no anime\.a\.inter, anime\.b\.inter, anime\.c\.inter",
    "benchmark_filename=[../../a]": "benchmark_filename must be a list of parts of a file's name",
    "additional_feat_suffix=[x/../../y]": "additional_feat_suffix must be a list of parts of a file's name",
    "data_path=http://localhost/data": "data_path is a folder, and nothing is fetched; got the address",
    "epochs=1": "There is no data set 'anime'",
}
"""Key -> what is said of a data set that RecBole would fetch."""


@pytest.fixture
def fetched(monkeypatch):
    """Addresses that are asked for, of whom nothing comes."""
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda url: asked.append(url) or SimpleNamespace(info=dict))
    return asked


@pytest.mark.parametrize("pair", MISSING)
def test_nothing_is_fetched_and_what_is_missing_is_said(pair, fetched, capsys):
    assert command_line(["run", "-m", "BPR", "-d", "anime", "--out", "run", pair]) == 2
    assert re.search(MISSING[pair], capsys.readouterr().err)
    assert fetched == []


def test_recboles_own_download_is_refused_wherever_it_comes_from(fetched, hostile):
    config = Config("BPR", config_dict=hostile)
    config.final_config_dict["data_path"] = "anime"
    config.final_config_dict["dataset"] = "anime"
    with suppress(Exception):
        create_dataset(config)
    (address,) = fetched
    assert address.endswith("anime.zip")
    fetched.clear()
    with (
        guards.guarded(),
        pytest.raises(ConfigError, match=r"RecBole would fetch https://.*anime\.zip, and nothing is"),
    ):
        create_dataset(config)
    assert fetched == []


def test_the_name_of_a_data_set_leads_to_no_settings_but_recboles_own(ratings, tmp_path):
    Path("elsewhere.yaml").write_text("learning_rate: 77\n")
    shutil.copytree(ratings / "toy", "data/toy")
    root = Path(recbole.__file__).parent
    file = f"{root}/config/../properties/dataset/{os.path.relpath('elsewhere', root / 'properties/dataset')}.yaml"
    assert Path(file).is_file()
    config = Config("BPR", "toy", config_dict={"data_path": "data"})
    assert config._update_internal_config_dict(file) == {}
    assert config.internal_config_dict["learning_rate"] != 77


@pytest.mark.parametrize("key", ["threads", "worker"])
def test_more_threads_or_processes_than_any_machine_has_are_refused(key, brief):
    with pytest.raises(ConfigError, match=rf"{key} must be at most \d+; got 100000"):
        run("BPR", config_dict={**brief, key: 100_000})


def test_recbole_is_what_it_was_outside_of_a_run(hostile):
    watched = [importlib.import_module(name) for name in guards._GUARDS]
    before = [dict(vars(module)) for module in watched]
    with guards.guarded():
        assert all(dict(vars(module)) != was for module, was in zip(watched, before, strict=True))
    assert [dict(vars(module)) for module in watched] == before


@pytest.mark.parametrize("again", [importlib.reload, None], ids=["reloaded", "imported anew"])
@pytest.mark.parametrize("name", guards._GUARDS)
def test_a_module_that_is_imported_while_a_run_lasts_is_guarded(name, again, monkeypatch):
    before = importlib.import_module(name)
    guarded, _ = guards._GUARDS[name]
    with guards.guarded():
        with guards.guarded():
            if again is None:
                monkeypatch.delitem(sys.modules, name)
                package, _, leaf = name.rpartition(".")
                monkeypatch.delattr(sys.modules[package], leaf)
            late = (again or importlib.import_module)(before if again else name)
            assert (late is before) == (again is not None)
        guard = vars(late)[guarded]
        does = guard if guarded == "eval" else getattr(guard, "load", None) or guard.urlopen
        assert does.__module__ == guards.__name__
    assert vars(late).get(guarded) is not guard


def test_every_guarded_module_is_watched():
    assert {name for name, subject in WATCHED.items() if subject == "guarded"} == set(guards._GUARDS)
