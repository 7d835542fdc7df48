"""Effect handlers, to be used as Pyro's own: gates on the gradients of latent blocks."""

from pyro_hfvae.poutine.gate_messenger import GateMessenger, gate

__all__ = ["GateMessenger", "gate"]
