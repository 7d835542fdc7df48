"""Effect handlers beside Pyro's own: gates on the gradients of latent blocks, and posteriors that data share."""

from pyro_hfvae.poutine.gate_messenger import GateMessenger, gate
from pyro_hfvae.poutine.share_messenger import GroupMessenger, PairMessenger, share_group, share_pairs

__all__ = ["GateMessenger", "GroupMessenger", "PairMessenger", "gate", "share_group", "share_pairs"]
