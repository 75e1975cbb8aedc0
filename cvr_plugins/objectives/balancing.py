"""Propensities that are trained to balance clicked and unclicked rows, too: IPS-V2 and DR-V2."""

from __future__ import annotations

from torch import Tensor

from cvr_plugins.contracts import Labels, Mechanism, Outputs
from cvr_plugins.functional import balancing_weight
from cvr_plugins.objectives.counterfactual import DR, IPS
from cvr_plugins.options import check_choice, check_number

BALANCED = ("prediction", "embedding")
TRAINED = ("both", "propensity")


class _Balancing(IPS):
    """Adds the term `balance` to IPS and to what is built on it."""

    balances: str
    balance_trains: str
    lambda_balance: float

    def _set_balance(self, balances: str, balance_trains: str, lambda_balance: float) -> None:
        self.balances = check_choice("balances", balances, BALANCED)
        self.balance_trains = check_choice("balance_trains", balance_trains, TRAINED)
        self.lambda_balance = check_number("lambda_balance", lambda_balance, low=0)
        if self.lambda_balance:
            moves_cvr = self.balances == "prediction" and self.balance_trains == "both"
            moved = ("ctr", "cvr") if moves_cvr else ("ctr",)
            self.mechanism = Mechanism("imbalance", "imbalance of clicked and unclicked rows")
            self.stops = {**self.stops, "balance": tuple(head for head in self.heads if head not in moved)}

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms of the objective without balancing and, unless `lambda_balance` is 0, `balance`."""
        terms = super().loss(out, y)
        if self.lambda_balance:
            weights = balancing_weight(out.logits["ctr"], y.click, self.propensity_floor)
            imbalance = (weights.unsqueeze(1) * self._balanced(out)).mean(dim=0)
            squared = imbalance.square().sum()
            self.measure("imbalance", squared, 1)
            terms["balance"] = self.lambda_balance * squared
        return terms

    def _balanced(self, out: Outputs) -> Tensor:
        """The functions to balance, `[B, K]`."""
        found = out.logits["cvr"].sigmoid().unsqueeze(1) if self.balances == "prediction" else out.embedding
        return found if self.balance_trains == "both" else found.detach()


class BalancedIPS(_Balancing):
    """IPS whose CTR head is also trained to balance clicked and unclicked rows: the objective of IPS-V2.

    `L = L_ctr + lambda_cvr * L_ips + lambda_ctcvr * L_ctcvr + lambda_balance * L_bmse`, the first three as in IPS, and
    `L_bmse = || mean_D [ (o / clip(p, floor, 1) - (1 - o) / clip(1 - p, floor, 1)) phi ] ||^2`,
    the balanced mean squared error, with p the propensity *with* its gradient: the click probability of the CTR head.

    o: click `[B]`; phi: functions of the features `[B, K]`, the norm over the K; D: the batch.

    Parameters
    ----------
    propensity_floor
        As in IPS, and of 1 - p in `L_bmse`.
    self_normalized, lambda_cvr, lambda_ctcvr
        As in IPS.
    balances
        phi; `"prediction"`, p_cvr alone, K = 1, or `"embedding"`, the concatenated input embeddings, dense values
        included as they are given.
    balance_trains
        `"both"`, what phi is made of gets the gradient of `L_bmse` as well as the propensity (the paper's co-training
        of a balanced representation), or `"propensity"`, phi is a constant.
    lambda_balance
        At least 0, and 0 leaves the term out.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    If p is the true click probability and nowhere clipped, the expectation over clicks of the mean is 0 for every phi,
    and that of `L_bmse` is what chance leaves, `sum_D |phi|^2 / (p (1 - p)) / B^2`.

    In the paper phi may be any function; `balances="prediction"`, all weights and `balance_trains="both"` are those of
    the released program (on Coat lambda_cvr 1 and lambda_balance 0.01). Deviations: the weights of `L_ips` have no
    gradient, so that the propensity learns from `L_ctr`, `L_ctcvr` and `L_bmse` alone, where the program lets `L_ips`
    lower them; both clips; and cross-entropy where the program has squared errors.

    References
    ----------
    Li et al., Propensity Matters, ICML 2023.
    """

    def __init__(
        self,
        *,
        propensity_floor: float = 0.01,
        self_normalized: bool = False,
        balances: str = "prediction",
        balance_trains: str = "both",
        lambda_cvr: float = 1.0,
        lambda_ctcvr: float = 1.0,
        lambda_balance: float = 0.01,
    ) -> None:
        super().__init__(
            propensity_floor=propensity_floor,
            self_normalized=self_normalized,
            lambda_cvr=lambda_cvr,
            lambda_ctcvr=lambda_ctcvr,
        )
        self._set_balance(balances, balance_trains, lambda_balance)


class BalancedDR(_Balancing, DR):
    """DR of an imputed conversion whose CTR head is also trained to balance: the objective of DR-V2.

    `L = L_ctr + lambda_cvr * L_dr + lambda_imputation * L_imp + lambda_ctcvr * L_ctcvr + lambda_balance * L_bmse`, with
    `L_bmse` as in BalancedIPS and the other terms as in DR with `imputes="conversion"`, all heads trained in one step.

    Parameters
    ----------
    propensity_floor, self_normalized, lambda_cvr, lambda_imputation, lambda_ctcvr
        As in DR.
    balances, balance_trains, lambda_balance
        As in BalancedIPS.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    The released program's weights on Coat are lambda_cvr 2, lambda_imputation 0.001 and lambda_balance 0.1. Deviations:
    those of BalancedIPS; the imputed error is a constant of the imputation head in `L_dr`, and `L_imp` is over the
    clicked rows, as the paper has it, where the program takes the conversion of unclicked rows for 0 in it.

    References
    ----------
    Li et al., Propensity Matters, ICML 2023.
    """

    def __init__(
        self,
        *,
        propensity_floor: float = 0.01,
        self_normalized: bool = False,
        balances: str = "prediction",
        balance_trains: str = "both",
        lambda_cvr: float = 1.0,
        lambda_imputation: float = 1.0,
        lambda_ctcvr: float = 1.0,
        lambda_balance: float = 0.1,
    ) -> None:
        super().__init__(
            propensity_floor=propensity_floor,
            self_normalized=self_normalized,
            imputes="conversion",
            lambda_cvr=lambda_cvr,
            lambda_imputation=lambda_imputation,
            lambda_ctcvr=lambda_ctcvr,
        )
        self._set_balance(balances, balance_trains, lambda_balance)
