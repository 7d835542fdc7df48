"""Effect handlers beside Pyro's own: gates on gradients of blocks, posteriors that data share or swap, known labels."""

from pyro_hfvae.poutine.gate_messenger import GateMessenger, gate
from pyro_hfvae.poutine.label_messenger import LabelMessenger, observe_labels
from pyro_hfvae.poutine.share_messenger import GroupMessenger, PairMessenger, share_group, share_pairs
from pyro_hfvae.poutine.swap_messenger import SwapMessenger, swap

__all__ = [
    "GateMessenger",
    "GroupMessenger",
    "LabelMessenger",
    "PairMessenger",
    "SwapMessenger",
    "gate",
    "observe_labels",
    "share_group",
    "share_pairs",
    "swap",
]
