"""What objectives whose CTR task may be left out have in common."""

from __future__ import annotations

from torch import Tensor, sigmoid

from cvr_plugins.contracts import Objective, Outputs
from cvr_plugins.options import check_flag


class OptionalCTR(Objective):
    """An objective that `train_ctr=False` leaves without the CTR task, its head and all predictions but CVR."""

    train_ctr: bool

    def _set_train_ctr(self, train_ctr: bool) -> None:
        self.train_ctr = check_flag("train_ctr", train_ctr)
        if self.train_ctr:
            return
        # A head that no term trains would predict noise: it is not built.
        self.heads = tuple(head for head in self.heads if head != "ctr")
        self.tasks = ("cvr",)
        self.ctr_terms = ()
        kept = {term: tuple(head for head in heads if head != "ctr") for term, heads in self.stops.items()}
        self.stops = {term: heads for term, heads in kept.items() if heads and term not in ("ctr", "ctcvr")}

    def predict(self, out: Outputs) -> dict[str, Tensor]:
        """Return `p_cvr` and, with the CTR task, `p_ctr` and `p_ctcvr = p_ctr * p_cvr`, each `[B]`."""
        return super().predict(out) if self.train_ctr else {"cvr": sigmoid(out.logits["cvr"])}
