"""Which column of `ys` is which label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cvr_plugins.contracts import Labels
from cvr_plugins.nearest import unknown
from cvr_plugins.training.columns import PROPENSITY, check_needs, labels_of

KNOWN = ("click", "conversion", "action", "counterfactual", "propensity", "ctcvr")
NOT_EVALUATED = frozenset({"ctcvr", PROPENSITY})
"""Columns that no metric is computed against."""
STOCK = ("conversion", "click", "ctcvr")
"""The columns torch-rechub's own ESMM is trained on."""


class LabelColumns:
    """Read labels from the columns of `ys`.

    Parameters
    ----------
    names
        Of the columns, among `KNOWN`; None for `STOCK`. `ctcvr` is click * conversion and is only checked;
        `counterfactual` is only evaluated against; `propensity`, the probability of the click
        (`cvr_plugins.propensities`), is only trained with.
    needs
        Labels the objective uses.
    method
        For messages.

    Raises
    ------
    ValueError
        For unknown or repeated names and for a needed label that is missing.
    """

    def __init__(self, names: Sequence[str] | None, *, needs: Sequence[str], method: str) -> None:
        self.assumed = names is None
        self.names = STOCK if names is None else tuple(names)
        self._checked = False
        for name in self.names:
            if name not in KNOWN:
                raise ValueError(unknown(f"Unknown label column {name!r}.", name, KNOWN))
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"Label columns must differ; got {list(self.names)}.")
        check_needs(method, ["click", "conversion", *needs], self.names)

    def labels(self, ys: Tensor, dtype: torch.dtype) -> Labels:
        """Return the labels of a batch `ys [B, C]`, conversion and action 0 wherever click is 0.

        The first batch is checked: each column 0/1, the propensity in [0, 1], `ctcvr` the product. Raises ValueError.
        """
        self._check_width(ys.dim(), ys.shape)
        columns = {name: ys[:, i] for i, name in enumerate(self.names)}
        if not self._checked:
            arrays = {name: column.float().cpu().numpy() for name, column in columns.items()}
            for name, column in arrays.items():
                check_label(name, column, "the first batch")
            self._check_ctcvr(arrays)
            self._checked = True
        return labels_of(columns, dtype)

    def arrays(self, ys: np.ndarray) -> dict[str, np.ndarray]:
        """Return click, conversion and what else of action and counterfactual there is, each `[N]`."""
        self._check_width(ys.ndim, ys.shape)
        columns = {name: ys[:, i] for i, name in enumerate(self.names)}
        self._check_ctcvr(columns)
        return {name: column for name, column in columns.items() if name not in NOT_EVALUATED}

    def _check_ctcvr(self, columns: Mapping[str, np.ndarray]) -> None:
        click, conversion = columns["click"], columns["conversion"]
        both = click * conversion
        claimed = columns.get("ctcvr", both)
        if (wrong := int((claimed != both).sum())) > 0:
            raise ValueError(
                f"The column 'ctcvr' is not click * conversion in {wrong} of {len(both)} rows. "
                + (
                    f"Without label_columns, the columns are taken to be {', '.join(STOCK)}; name yours."
                    if self.assumed
                    else "Check the order of label_columns."
                )
            )
        # Their product does not tell click from conversion; that nobody converts without a click does.
        if self.assumed and (conversion > both).any() and not (click > both).any():
            raise ValueError(
                f"The columns of ys seem to be in another order than {', '.join(STOCK)}, torch-rechub's: "
                f"{int((conversion > both).sum())} rows convert without a click and no click stays without a "
                "conversion. Name the columns with label_columns."
            )

    def _check_width(self, dim: int, shape: Sequence[int]) -> None:
        if dim != 2 or shape[1] != len(self.names):
            raise ValueError(
                f"ys must have one column for each of {', '.join(self.names)}; got shape {tuple(shape)}. "
                "Name its columns with label_columns."
            )


def check_label(name: str, column: np.ndarray, where: str) -> None:
    """Raise ValueError unless every value is 0 or 1, of the propensity in [0, 1], saying in how many rows it is not."""
    if name == PROPENSITY:
        wrong, cure = ~((column >= 0) & (column <= 1)), "Check the order of the columns."
        wanted = "The column 'propensity' must hold probabilities of a click"
    else:
        wrong, cure = (column != 0) & (column != 1), "Check the order of the columns, and map labels to 0 and 1."
        wanted = f"The label column {name!r} must hold 0 and 1"
    if wrong.any():
        raise ValueError(
            f"{wanted}; {int(wrong.sum())} of {len(column)} rows of {where} do not (the first holds "
            f"{column[wrong][0]:g}). {cure}"
        )
