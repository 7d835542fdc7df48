"""Effect handlers beside Pyro's own: gates on the gradients of blocks, posteriors that data share, known labels."""

from pyro_hfvae.poutine.gate_messenger import GateMessenger, gate
from pyro_hfvae.poutine.label_messenger import LabelMessenger, observe_labels
from pyro_hfvae.poutine.share_messenger import GroupMessenger, PairMessenger, share_group, share_pairs

__all__ = [
    "GateMessenger",
    "GroupMessenger",
    "LabelMessenger",
    "PairMessenger",
    "gate",
    "observe_labels",
    "share_group",
    "share_pairs",
]
