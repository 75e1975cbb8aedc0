"""Architectures and backbones."""

from cvr_plugins.architectures.backbones import MLP, NCF
from cvr_plugins.architectures.dcn_v2 import DCNV2
from cvr_plugins.architectures.deepfm import DeepFM
from cvr_plugins.architectures.masked import Masked
from cvr_plugins.architectures.mmoe import MMoE
from cvr_plugins.architectures.ple import PLE
from cvr_plugins.architectures.shared_bottom import SharedBottom
from cvr_plugins.architectures.towers import Towers

__all__ = [
    "DCNV2",
    "MLP",
    "NCF",
    "PLE",
    "DeepFM",
    "MMoE",
    "Masked",
    "SharedBottom",
    "Towers",
]
