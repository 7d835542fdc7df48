"""Effect handlers beside Pyro's: gates on gradients of blocks, posteriors that data share or swap, known labels."""

from pyro_hfvae.poutine.agree_messenger import AgreeMessenger, agree
from pyro_hfvae.poutine.gate_messenger import GateMessenger, gate
from pyro_hfvae.poutine.label_messenger import LabelMessenger, observe_labels
from pyro_hfvae.poutine.share_messenger import GroupMessenger, PairMessenger, share_group, share_pairs
from pyro_hfvae.poutine.swap_messenger import SwapMessenger, swap
from pyro_hfvae.poutine.trim_messenger import TrimMessenger, trim

__all__ = [
    "AgreeMessenger",
    "GateMessenger",
    "GroupMessenger",
    "LabelMessenger",
    "PairMessenger",
    "SwapMessenger",
    "TrimMessenger",
    "agree",
    "gate",
    "observe_labels",
    "share_group",
    "share_pairs",
    "swap",
    "trim",
]
