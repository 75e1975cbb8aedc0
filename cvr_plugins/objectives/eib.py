"""An imputed error in place of every error that is not observed: EIB."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cvr_plugins.contracts import Labels, Mechanism, Outputs, Phase
from cvr_plugins.functional import bce, masked_mean
from cvr_plugins.objectives._ctr import OptionalCTR
from cvr_plugins.options import check_choice, check_number

FITS = ("conversion", "error")


class EIB(OptionalCTR):
    """Clicked rows by their error, unclicked rows by an imputed one; no propensity.

    `L = L_ctr + lambda_cvr * L_eib + lambda_imputation * L_imp` with `L_ctr = mean_D bce(o, p_ctr)`,
    `L_eib = mean_D [ o e + (1 - o) e_hat ]`, of which the imputation head gets no gradient, and
    `L_imp = mean_O bce(r, r_hat)`, or with `fits="error"` `mean_O (sg(e) - e_hat)^2`, of which the CVR head gets none;
    0 without a click. Two steps per batch: the imputation head alone on `L_imp`, then everything else on the other
    terms.

    o: click `[B]`; `e = bce(r, p_cvr)` with r the conversion, read where o = 1 only; `e_hat = bce(r_hat, p_cvr)` with
    r_hat the sigmoid of the head `imputation`; D: the batch; O: its clicked rows; sg: no gradient.

    Parameters
    ----------
    fits
        What the imputation is fitted to on clicked rows, `"conversion"` or `"error"`. The second is no function of
        r_hat where p_cvr is 1/2, and most of what trains the CVR head is r_hat: from weights that predict 1/2
        everywhere the two do not get away.
    lambda_cvr, lambda_imputation
        Above 0.
    train_ctr
        False leaves out the CTR task, its head and all predictions but CVR.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    Unbiased for the loss over the entire space if the imputed errors are right, and as biased as they are otherwise.

    References
    ----------
    Steck, Training and Testing of Recommender Systems on Data Missing Not at Random, KDD 2010, imputes a constant; the
    form with a model of the error is eq. 3 of Zheng et al., Adap-SL, SIGIR 2025, which does not say how it is fitted.
    """

    heads: tuple[str, ...] = ("ctr", "cvr", "imputation")
    mechanism = Mechanism("imputed", "mean conversion imputed to unclicked rows", idle=0.0)
    stops: Mapping[str, tuple[str, ...]] = {
        "ctr": ("cvr", "imputation"),
        "cvr": ("ctr", "imputation"),
        "imputation": ("ctr", "cvr"),
    }

    def __init__(
        self,
        *,
        fits: str = "conversion",
        lambda_cvr: float = 1.0,
        lambda_imputation: float = 1.0,
        train_ctr: bool = True,
    ) -> None:
        super().__init__()
        self.fits = check_choice("fits", fits, FITS)
        self.lambda_cvr = check_number("lambda_cvr", lambda_cvr, low=0, open_low=True)
        self.lambda_imputation = check_number("lambda_imputation", lambda_imputation, low=0, open_low=True)
        self._set_train_ctr(train_ctr)
        trained = ("ctr", "cvr") if self.train_ctr else ("cvr",)
        self.phases = (
            Phase("imputation", terms=("imputation",), trains=("imputation",), shared=False),
            Phase("prediction", terms=trained, trains=trained),
        )

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, `cvr` and `imputation`; without `train_ctr` no `ctr`."""
        cvr, imputation = out.logits["cvr"], out.logits["imputation"]
        error = bce(cvr, y.conversion)
        label = imputation.detach().sigmoid()
        imputed = bce(cvr, label)
        unclicked = 1 - y.click
        self.measure("imputed", (unclicked * label).sum(), unclicked.sum())
        if self.fits == "conversion":
            misfit = bce(imputation, y.conversion)
        else:
            misfit = (error.detach() - bce(cvr.detach(), imputation.sigmoid())).square()
        terms = {
            "cvr": self.lambda_cvr * (y.click * error + unclicked * imputed).mean(),
            "imputation": self.lambda_imputation * masked_mean(misfit, y.click),
        }
        return {"ctr": bce(out.logits["ctr"], y.click).mean(), **terms} if self.train_ctr else terms
