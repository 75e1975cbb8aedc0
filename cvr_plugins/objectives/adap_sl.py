"""Doubly robust learning on masked sub-networks that are pruned while they are trained: Adap-SL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cvr_plugins.architectures.masked import KINDS, MODELS, SCOPES
from cvr_plugins.contracts import CTR_TOWER, Architecture, Mechanism
from cvr_plugins.objectives.counterfactual import DR
from cvr_plugins.options import check_choice, check_count, check_number

T = TypeVar("T", float, int)


class AdapSL(DR):
    """DR of an imputed conversion; after each epoch from `warm_up` on, each model loses its least weights.

    Per batch the imputation model is trained on `L_imp = mean_D [ o w (sg(e) - e_hat)^2 ]`, then the prediction model
    on `L_dr = mean_D [ e_hat + o w (e - e_hat) ]` (and the CTR task on its loss), each by an optimiser of its own over
    the weights it alone has and those that both share. `e = bce(r, p_cvr)`; `e_hat = bce(r_hat, p_cvr)` with `r_hat`
    the sigmoid of the head `imputation`, of which `L_dr`, and with `p_cvr`, of which `L_imp` is no function: see DR
    with `imputes="conversion"`, whose symbols these are.

    Pruning of a model, prediction or imputation: let S be the share of its prunable coordinates that its masks have
    dropped. After epoch `epoch`, counted from 0, if `epoch >= warm_up` and `S < target_sparsity`, the t-th pruning
    leaves `(1 - prune_rate)^t` of the coordinates, rounded, those of largest score; what is dropped never returns.

    Parameters
    ----------
    prune_rate, target_sparsity, warm_up, gradient_share
        Each one value, or `{"prediction": ..., "imputation": ...}` for one each. prune_rate: in [0, 1), 0 for no
        pruning; target_sparsity: in [0, 1]; warm_up: epochs, at least 0; gradient_share: in [0, 1], the part of the
        score that is the gradient (the mean absolute one over the epoch's batches, relative to its mean over the
        coordinates) and not the absolute weight (relative likewise).
    scope
        `"per_tensor"`, the share is left of each tensor by itself, or `"global"`, of all of a model's together.
    prune
        What is pruned, a list of `"embeddings"` and `"linear"` (weights of the backbones' linear layers); the first
        alone is the paper's ablation "w/o prune LN".
    propensity, propensity_floor, self_normalized, lambda_cvr, lambda_imputation, lambda_ctcvr, train_ctr
        As in DR.

    Raises
    ------
    ValueError
        For other values, and when the model is put together on an architecture without masks.

    Notes
    -----
    Epochs before the first pruning are not kept and do not count towards early stopping (`ready`).

    Deviations: the printed condition `||M||_0 / |phi| > S`, with the printed meaning of `||M||_0` (the number of
    zeros), never begins to prune; here pruning goes on while the share of zeros is below the target. The paper's
    propensity is a model fitted before training: `propensity`.

    References
    ----------
    Zheng et al., Adap-SL, SIGIR 2025, algorithm 1 and eqs. 21 and 22.
    """

    def __init__(
        self,
        *,
        prune_rate: float | Mapping[str, float] = 0.1,
        target_sparsity: float | Mapping[str, float] = 0.5,
        warm_up: int | Mapping[str, int] = 6,
        scope: str = "per_tensor",
        gradient_share: float | Mapping[str, float] = 0.0,
        prune: str | Sequence[str] = KINDS,
        propensity: str = CTR_TOWER,
        propensity_floor: float = 0.01,
        self_normalized: bool = False,
        lambda_cvr: float = 1.0,
        lambda_imputation: float = 1.0,
        lambda_ctcvr: float = 0.0,
        train_ctr: bool = True,
    ) -> None:
        super().__init__(
            propensity=propensity,
            propensity_floor=propensity_floor,
            self_normalized=self_normalized,
            imputes="conversion",
            alternate=True,
            lambda_cvr=lambda_cvr,
            lambda_imputation=lambda_imputation,
            lambda_ctcvr=lambda_ctcvr,
            train_ctr=train_ctr,
        )
        share = partial(check_number, low=0, high=1)
        self.prune_rate = _per_model("prune_rate", prune_rate, partial(share, open_high=True))
        self.target_sparsity = _per_model("target_sparsity", target_sparsity, share)
        self.warm_up = _per_model("warm_up", warm_up, partial(check_count, least=0))
        self.gradient_share = _per_model("gradient_share", gradient_share, share)
        self.scope = check_choice("scope", scope, SCOPES)
        self.prune = _kinds(prune)
        self.phases = self._alternating(shared=True)
        pruned = [model for model in MODELS if self.prune_rate[model] and self.target_sparsity[model]]
        self.first_stage = min((self.warm_up[model] + 1 for model in pruned), default=0)
        self.register_buffer("prunings", torch.zeros(len(MODELS), dtype=torch.int64))
        self._architecture: list[Any] = []

    mechanism = Mechanism("active", "coordinates in use", idle=1.0)

    prunings: Tensor
    """How often each of MODELS has been pruned."""

    @property
    def ready(self) -> bool:  # type: ignore[override]
        """Whether an epoch has been trained after a pruning, or none is asked for."""
        return not self.first_stage or bool(self.prunings.any())

    def prepare(self, architecture: Architecture, encoder: nn.Module) -> None:
        """Keep the architecture, whose masks are changed later."""
        if not all(hasattr(architecture, name) for name in ("prune", "active", "track_gradients", "forget_gradients")):
            raise ValueError(
                f"AdapSL prunes masks, which {type(architecture).__name__} does not have; "
                "choose the architecture 'masked', or MRDR or DR_JL on this one."
            )
        masked: Any = architecture
        self._architecture = [masked]
        for model, share in self.gradient_share.items():
            if share:
                masked.track_gradients(model)

    def on_epoch_end(self, epoch: int) -> bool:
        """Prune each model that is due; no parameter is replaced."""
        (architecture,) = self._architecture
        for number, model in enumerate(MODELS):
            rate = self.prune_rate[model]
            sparsity = 1 - architecture.active(model, self.prune)["total"]
            if rate and epoch >= self.warm_up[model] and sparsity < self.target_sparsity[model]:
                self.prunings[number] += 1
                architecture.prune(
                    model,
                    (1 - rate) ** int(self.prunings[number]),
                    kinds=self.prune,
                    scope=self.scope,
                    gradient_share=self.gradient_share[model],
                )
        architecture.forget_gradients()
        return False

    def diagnostics(self) -> dict[str, float]:
        """Return the share of coordinates in use, `active/<model>/<total, shared or private>`; `active`: mean total."""
        (architecture,) = self._architecture
        shares = {model: architecture.active(model, self.prune) for model in MODELS}
        parts = {f"active/{model}/{part}": share for model in MODELS for part, share in shares[model].items()}
        return {"active": sum(share["total"] for share in shares.values()) / len(MODELS), **parts}


def _per_model(name: str, value: object, check: Callable[[str, object], T]) -> dict[str, T]:
    """Return model -> checked value, of one value for both or of one each."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(MODELS, check(name, value))
    if set(value) != set(MODELS):
        raise ValueError(f"{name} must be one value, or a mapping with the keys {', '.join(MODELS)}; got {value!r}.")
    return {model: check(f"{name}[{model!r}]", value[model]) for model in MODELS}


def _kinds(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names or len(set(map(str, names))) != len(names):
        raise ValueError(f"prune must be a list of {', '.join(KINDS)}, each once; got {value!r}.")
    return tuple(check_choice("prune", name, KINDS) for name in names)
