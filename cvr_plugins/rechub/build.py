"""From a configuration and a vocabulary to an untrained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.basic.initializers import RandomNormal

from cvr_plugins.assembly import OptionError
from cvr_plugins.config import Config, ConfigError
from cvr_plugins.data import Schema, Vocabulary
from cvr_plugins.plugins.blame import blamed
from cvr_plugins.rechub.features import Feature
from cvr_plugins.rechub.models import RechubModel, model_class


def build_model(config: Config, schema: Schema, vocabulary: Vocabulary) -> RechubModel:
    """Build the untrained model of a configuration for the features of a vocabulary.

    Raises OptionError for options that a part of the model refuses, ConfigError for anything else that does not fit.
    """
    features: dict[bool, list[Feature]] = {True: [], False: []}
    width = config["embedding_size"]
    drawn = RandomNormal(0, config["embedding_std"])
    made: dict[str, Callable[[str], Feature]] = {
        "token": lambda name: SparseFeature(name, vocabulary.sizes[name], embed_dim=width, initializer=drawn),
        "token_seq": lambda name: SequenceFeature(
            name, vocabulary.sizes[name], embed_dim=width, padding_idx=0, initializer=drawn
        ),
        "float": DenseFeature,
    }
    for feature in schema.features:
        features[feature.side == "user"].append(made[feature.kind](feature.name))
    dense_stats = vocabulary.dense_stats if config["dense"] == "tanh" else None
    cls = model_class(config["model"])
    with blamed(cls.method.name, cls.plugin, "its constructor", ConfigError), user_error():
        return cls(
            features[True],
            features[False],
            architecture=config["architecture"],
            backbone=config["backbone"],
            weighting=config["weighting"],
            dense=config["dense"],
            dense_stats=dense_stats,
            **config.options,
        )


@contextmanager
def user_error() -> Iterator[None]:
    """Turn a ValueError, in which models and trainers say what is wrong with their arguments, into a ConfigError."""
    try:
        yield
    except (ConfigError, OptionError):
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
