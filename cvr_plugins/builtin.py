"""This package's own methods, parts of models, metrics and data sets, registered through the hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cvr_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from cvr_plugins.contracts import Architecture, Backbone, Method, Weighting
    from cvr_plugins.data import FunnelLog
    from cvr_plugins.metrics import Metric


@hookimpl
def cvr_register_methods() -> list[Method]:
    """Return the table of methods."""
    from cvr_plugins.methods import METHODS

    return list(METHODS)


@hookimpl
def cvr_register_architectures() -> Mapping[str, type[Architecture]]:
    """Return our architectures."""
    from cvr_plugins.architectures import PLE, Masked, MMoE, SharedBottom, Towers

    return {"towers": Towers, "shared_bottom": SharedBottom, "mmoe": MMoE, "ple": PLE, "masked": Masked}


@hookimpl
def cvr_register_backbones() -> Mapping[str, Callable[..., Backbone]]:
    """Return our backbones."""
    from cvr_plugins.architectures import DCNV2, MLP, NCF, DeepFM

    return {"mlp": MLP, "deepfm": DeepFM, "dcn_v2": DCNV2, "ncf": NCF}


@hookimpl
def cvr_register_weightings() -> Mapping[str, type[Weighting]]:
    """Return our weightings of the CTR loss against the CVR loss."""
    from cvr_plugins.weightings import DTP, DWA, Dynamic, Fixed

    return {"dynamic": Dynamic, "fixed": Fixed, "dwa": DWA, "dtp": DTP}


@hookimpl
def cvr_register_metrics() -> Mapping[str, Metric]:
    """Return our metrics without a parameter."""
    from cvr_plugins.metrics import METRICS

    return METRICS


@hookimpl
def cvr_register_datasets() -> Mapping[str, Callable[..., FunnelLog]]:
    """Return the data sets that can be built here, and those whose files the user brings."""
    from cvr_plugins.data import ml_100k_funnel, simulated_funnel
    from cvr_plugins.data.published import (
        ali_ccp,
        coat,
        kuairand_pure,
        kuairand_pure_random,
        kuairec,
        retailrocket,
        taobao,
        yahoo_r3,
        yoochoose,
    )
    from cvr_plugins.data.sessions import ml_100k_sessions

    return {
        "ml-100k-funnel": ml_100k_funnel,
        "simulated-funnel": simulated_funnel,
        "ali-ccp": ali_ccp,
        "kuairand-pure": kuairand_pure,
        "kuairand-pure-random": kuairand_pure_random,
        "ml-100k-sessions": ml_100k_sessions,
        "retailrocket": retailrocket,
        "taobao": taobao,
        "yoochoose": yoochoose,
        "coat": coat,
        "yahoo-r3": yahoo_r3,
        "kuairec": kuairec,
    }
