r"""Divergence between the posteriors of partners in the blocks that they share.

.. math:: \frac{1}{B} \sum_b s_{b,d}\, g_{b,d}\, D\left(q(z_d|x_b), q(z_d|x_{\pi(b)})\right)

with s whether datum b shares block d with its partner π(b), and g whether its gate is open.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Size, Tensor

from pyro_hfvae.infer.notes import Partners, open_gates, own_posterior, partners_of
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.traces import Message, latent_sites, name_list
from pyro_hfvae.infer.weights import Weight
from pyro_hfvae.sites import Site, describe, read_site

__all__ = ["Agreement"]


class Agreement(Penalty):
    r"""The divergence between partners' posteriors of the blocks that they share, in nats per datum.

    .. math:: D(q, q') = \tfrac12 KL(q \| q') + \tfrac12 KL(q' \| q) \qquad\text{or}\qquad
        D(q, q') = KL(\mathrm{stop\_gradient}(q) \| q')

    the latter with the input as the teacher, where q is of the input, the datum of a pair that comes first in the
    batch, and q' of its partner. It is exact: categoricals, relaxed ones too, enter by the masses of their categories,
    normal variables and others with a closed form by that. Both data of a pair count the divergence of the pair. Data
    without a partner, or with themselves as partner, count exactly 0, and so do pairs of which a gate is closed; the
    mean is over all B data of the batch.

    Who shares what is set by the handler :class:`~pyro_hfvae.poutine.agree`, in which the objective is called, or by
    ``batches.pairs`` of a configuration. Held-out data have no partners, and 0 is reported for them. Without a reward
    of information all posteriors agree best where they do not depend on the datum. Labels of the same block
    (:class:`~pyro_hfvae.poutine.observe_labels`) exclude categories, and the divergence from them has no bound.

    Xie, Dai, Hovy, Luong, Le, Unsupervised Data Augmentation for Consistency Training (NeurIPS 2020), have the form
    with a teacher, for classifiers; Sinha, Dieng, Consistency Regularization for Variational Auto-Encoders (NeurIPS
    2021), charge the divergence between the posteriors of a datum and of its distorted copy.

    Args:
        weight: a number, a schedule, or a capacity to be held at.
        blocks: names of the blocks that are charged; all that partners share by default.
        teacher: the input is the teacher: its posterior gets no gradient from here.

    Raises:
        ValueError: the weight is not finite, or no blocks; on use, a block that no data share, or in training no
            partners at all.
        NotImplementedError: on use, a site whose divergence has no closed form, or that depends on others; names it.
    """

    needs_split = False
    needs_partners = True

    def __init__(self, weight: Weight = 1.0, blocks: Sequence[str] | None = None, teacher: bool = False) -> None:
        super().__init__(weight)
        if isinstance(blocks, str) or (blocks is not None and not blocks):
            raise ValueError(f"blocks of Agreement must be a list of one name or more, got {blocks!r}")
        self.blocks = None if blocks is None else tuple(blocks)
        self.teacher = teacher

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The divergence, a mean over the data of all batches and over particles."""
        size = sum(sample.shape[1] for sample in samples)
        return torch.stack([self._of_batch(sample) * (sample.shape[1] / size) for sample in samples]).sum()

    def _of_batch(self, sample: Sample) -> Tensor:
        noted = list(_noted_sites(sample))
        known = dict.fromkeys(block for *_, partners in noted for block in partners.shared)
        if noted and (unknown := [block for block in self.blocks or () if block not in known]):
            raise ValueError(
                f"Agreement is to charge block '{unknown[0]}', which no data share; they share: {name_list(known)}"
            )
        total = sample.log_likelihood.new_zeros(())
        for name, site, partners in noted:
            for block in self.blocks or known:
                if block in partners.shared:
                    total = total + self._of_block(sample, name, site, partners, block)
        return total

    def _of_block(self, sample: Sample, name: str, site: Message, partners: Partners, block: str) -> Tensor:
        """The divergence of the block's variables at a site, a mean over particles and data."""
        if sample.dependence.guide.get(name):
            raise NotImplementedError(
                f"site '{name}' of the guide depends on other sites, and the divergence between its posteriors given "
                "different samples of these is not that of the block; let other sites agree"
            )
        posterior, places = read_site(name, own_posterior(site)), partners.places
        if not posterior.independent and len(partners.variables[block]) < posterior.variables:
            raise NotImplementedError(
                f"site '{name}' is {describe(posterior.fn)}, whose variables depend on one another: only all of them "
                f"can agree together, not those of block '{block}' alone"
            )
        own = torch.arange(len(places), device=places.device)
        rows = (partners.shared[block].to(places.device) & (places != own)).nonzero().squeeze(1)  # [R]
        if not len(rows):
            return sample.log_likelihood.new_zeros(())
        first, second = torch.minimum(rows, places[rows]), torch.maximum(rows, places[rows])
        one, other = _chosen(posterior, first, self.teacher), _chosen(posterior, second)
        divergence = one.divergence(other)
        if not self.teacher:
            divergence = (divergence + other.divergence(one)) / 2
        divergence = divergence.reshape(*one.fn.batch_shape, -1)  # [*, R, V], or [*, R, 1] where they are dependent
        if posterior.independent:
            divergence = divergence[..., partners.variables[block]]
        opened = open_gates(site)
        if opened is not None:
            opened = opened[..., first, :] & opened[..., second, :]
            opened = opened[..., partners.variables[block]] if opened.shape[-1] > 1 else opened
            opened = opened if posterior.independent else opened.all(-1, keepdim=True)
            divergence = torch.where(opened.to(divergence.device), divergence, 0.0)
        return (divergence.sum() / posterior.fn.batch_shape.numel()).to(sample.log_likelihood)


def _noted_sites(sample: Sample) -> Iterator[tuple[str, Message, Partners]]:
    """The sites of the guide at which a handler noted partners."""
    for name, site in latent_sites(sample.guide.trace).items():
        partners = partners_of(site)
        if partners is not None:
            yield name, site, partners


def _chosen(site: Site, places: Tensor, detached: bool = False) -> Site:
    """The posteriors of some of the data, in float64."""
    batch = site.fn.batch_shape
    try:
        parameters = [part.index_select(len(batch) - 1, places.to(part.device)) for part in site.parameters()]
    except NotImplementedError as error:
        raise NotImplementedError(f"the posteriors of site '{site.name}' cannot be compared: {error}") from None
    parameters = [part.detach() for part in parameters] if detached else parameters
    fn = site.with_parameters(parameters, Size((*batch[:-1], len(places))))
    return read_site(site.name, fn).double()
