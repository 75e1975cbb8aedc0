"""Objectives, one paper a file."""

from cvr_plugins.objectives.adap_sl import AdapSL
from cvr_plugins.objectives.asymmetric import AsymmetricIPS
from cvr_plugins.objectives.balancing import BalancedDR, BalancedIPS
from cvr_plugins.objectives.counterfactual import DR, IPS
from cvr_plugins.objectives.dcmt import DCMT
from cvr_plugins.objectives.eib import EIB
from cvr_plugins.objectives.entire_space import ESMM, Naive, UnclickedNegative
from cvr_plugins.objectives.esm2 import ESM2
from cvr_plugins.objectives.idefn import IdeFN
from cvr_plugins.objectives.nise import NISE
from cvr_plugins.objectives.targeted import TargetedDR

__all__ = [
    "DCMT",
    "DR",
    "EIB",
    "ESM2",
    "ESMM",
    "IPS",
    "NISE",
    "AdapSL",
    "AsymmetricIPS",
    "BalancedDR",
    "BalancedIPS",
    "IdeFN",
    "Naive",
    "TargetedDR",
    "UnclickedNegative",
]
