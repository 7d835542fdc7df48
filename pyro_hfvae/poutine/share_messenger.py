"""Posteriors that several data share: of a group (ML-VAE, GVAE), or of what a pair is found to have in common (Ada)."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Size, Tensor

from pyro_hfvae.poutine.arguments import ArrayLike, as_integers
from pyro_hfvae.poutine.named_messenger import NamedMessenger
from pyro_hfvae.sites import DiscreteSite, NormalSite, Site, describe, read_site

__all__ = ["GroupMessenger", "PairMessenger", "share_group", "share_pairs"]

How = Literal["product", "average"]
"""How several posteriors become one."""


class _ShareMessenger(NamedMessenger):
    def __init__(self, sites: Sequence[str], how: How) -> None:
        if isinstance(sites, str) or not sites:
            raise ValueError(f"the sites that are shared must be a list of names, got {sites!r}")
        if how not in get_args(How):
            raise ValueError(f"posteriors are combined by one of {', '.join(map(repr, get_args(How)))}, got {how!r}")
        super().__init__(sites)
        self.sites = tuple(sites)
        self.how = how

    def _not_sampled(self, name: str) -> str:
        return f"site '{name}' is to be shared, but was not sampled"

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.sites or msg["done"] or msg["value"] is not None:
            return
        self._sampled.add(msg["name"])
        site = read_site(msg["name"], msg["fn"])
        if not isinstance(site, NormalSite | DiscreteSite):
            raise NotImplementedError(
                f"site '{site.name}' is {describe(site.fn)}, whose posteriors are not combined here: share normal and "
                "categorical sites"
            )
        msg["fn"] = site.with_parameters(self._shared(site), site.fn.batch_shape)

    @abstractmethod
    def _shared(self, site: Site) -> list[Tensor]:
        """The parameters of a site, with those of data that share it made one."""


class GroupMessenger(_ShareMessenger):
    r"""Gives all members of a group one posterior, made of all of theirs.

    .. math:: \text{product: } \frac1{\sigma_G^2} = \sum_{i \in G} \frac1{\sigma_i^2}, \quad
        \mu_G = \sigma_G^2 \sum_{i \in G} \frac{\mu_i}{\sigma_i^2}; \qquad
        \text{average: } \mu_G = \frac1{|G|} \sum_{i \in G} \mu_i, \quad
        \sigma_G^2 = \frac1{|G|} \sum_{i \in G} \sigma_i^2

    The product is that of the densities, normalised: ML-VAE (Bouchacourt, Tomioka, Nowozin, Multi-Level Variational
    Autoencoder, AAAI 2018). Its precisions add, so that for a pair the variance is σ_1² σ_2² / (σ_1² + σ_2²); code in
    circulation has twice that. The average is that of GVAE (Hosoya, Group-based Learning of Disentangled
    Representations with Generalizability for Novel Contents, IJCAI 2019), with the variances averaged as by Locatello
    et al. (2020). Masses of categories are multiplied and normalised, or averaged.

        >>> loc, scale = torch.tensor([0.0, 3.0, 5.0]), torch.tensor([1.0, 0.5, 2.0])
        >>> def guide():
        ...     with pyro.plate("data", 3):
        ...         pyro.sample("content", dist.Normal(loc, scale))
        >>> with share_group(["content"], torch.tensor([7, 7, 8])):
        ...     fn = pyro.poutine.trace(guide).get_trace().nodes["content"]["fn"]
        >>> [round(float(mean), 3) for mean in fn.loc]
        [2.4, 2.4, 5.0]

    Members draw samples of their own from it: the expected log-likelihood of a group is a sum over the members, and the
    same as with one sample. What an objective charges for the site it charges for each member; to charge a group once,
    give the block weights of one over the number of members. An inference marginal takes members for different data.

    Args:
        sites: names of the sites that are shared.
        groups: for each datum the number of its group, [B], integers: a tensor, an array or a list.
        how: ``"product"`` or ``"average"``.

    Raises:
        ValueError: no names of sites, or groups that are not one integer for each datum; on leaving, a site that was
            not sampled.
        NotImplementedError: a site that is neither normal nor categorical; names it.
    """

    def __init__(self, sites: Sequence[str], groups: ArrayLike, how: How = "product") -> None:
        super().__init__(sites, how)
        numbers = as_integers("groups", groups)
        _, self._place, self._sizes = numbers.unique(return_inverse=True, return_counts=True)

    def _shared(self, site: Site) -> list[Tensor]:
        batch, members = site.fn.batch_shape, len(self._place)
        if not batch or batch[-1] != members:
            raise ValueError(
                f"there are groups of {members} data, but site '{site.name}' has the batch shape {tuple(batch)}"
            )
        parameters = site.parameters()
        place = self._place.to(parameters[0].device)
        sizes = self._sizes.to(parameters[0].device)

        def total(values: Tensor) -> Tensor:
            dim = len(batch) - 1
            shape = (*values.shape[:dim], len(self._sizes), *values.shape[dim + 1 :])
            sums = values.new_zeros(shape).index_add(dim, place, values)
            return sums.index_select(dim, place)

        count = sizes[place].reshape(-1, *(1,) * (parameters[0].dim() - len(batch)))  # [B, 1, …]
        return _combined(parameters, total, count, self.how)


class PairMessenger(_ShareMessenger):
    r"""Lets the two data of a pair share the variables in which their posteriors are close.

    .. math:: \delta_j = KL(q(z_j|x_1) \| q(z_j|x_2)), \qquad
        z_j \text{ is shared where } \delta_j < \tfrac12 (\max_k \delta_k + \min_k \delta_k)

    Locatello et al., Weakly-Supervised Disentanglement Without Compromises (ICML 2020): Ada-GVAE with
    ``how="average"``, Ada-ML-VAE with ``"product"``, for pairs of which it is not known what they share. The batch is
    two halves, datum b of the first being the partner of datum b of the second. Maximum and minimum are over the
    variables of a site; which are shared has no gradient, their posteriors do.

    Args:
        sites: names of the sites, each of several variables.
        how: as of :class:`GroupMessenger`.

    Raises:
        ValueError: no names of sites, or a batch that is no two halves; on leaving, a site that was not sampled.
        NotImplementedError: a site that is neither normal nor categorical; names it.
    """

    def __init__(self, sites: Sequence[str], how: How = "average") -> None:
        super().__init__(sites, how)

    def _shared(self, site: Site) -> list[Tensor]:
        batch = site.fn.batch_shape
        if not batch or batch[-1] % 2:
            raise ValueError(f"site '{site.name}' has the batch shape {tuple(batch)}, which is not two halves of pairs")
        dim, half = len(batch) - 1, batch[-1] // 2
        parameters = site.parameters()
        halves = zip(*(each.detach().split(half, dim) for each in parameters), strict=True)
        shape = Size((*batch[:-1], half))
        first, second = (read_site(site.name, site.with_parameters(part, shape)) for part in halves)
        divergence = first.divergence(second)  # [*batch, *cells], one number for each variable
        variables = tuple(range(len(batch), divergence.dim()))
        threshold = 0.5 * (divergence.amax(variables, True) + divergence.amin(variables, True)) if variables else 0
        shared = (divergence < threshold).repeat((1,) * dim + (2,) + (1,) * len(variables))

        def total(values: Tensor) -> Tensor:
            return values + values.roll(half, dim)

        both = _combined(parameters, total, torch.tensor(2, device=divergence.device), self.how)
        if len(parameters) == 1:
            shared = shared[..., None]
        return [torch.where(shared, one, own) for one, own in zip(both, parameters, strict=True)]


def _combined(parameters: Sequence[Tensor], total: Callable[[Tensor], Tensor], count: Tensor, how: How) -> list[Tensor]:
    """The parameters of the product or the average of the posteriors that ``total`` sums over."""
    if len(parameters) == 2:
        loc, variance = parameters[0], parameters[1].square()
        if how == "product":
            precision = total(1 / variance)
            return [total(loc / variance) / precision, precision.rsqrt()]
        return [total(loc) / count, (total(variance) / count).sqrt()]
    (masses,) = parameters
    if how == "product":
        return [total(masses).log_softmax(-1)]
    return [(total(masses.exp()) / count).clamp_min(torch.finfo(masses.dtype).tiny).log()]


def share_group(sites: Sequence[str], groups: ArrayLike, how: How = "product") -> GroupMessenger:
    """Handler of :class:`GroupMessenger`: ``with share_group(["content"], groups): …``, or a decorator of a guide.

    Args:
        sites: names of the sites that are shared.
        groups: for each datum the number of its group, [B], integers: a tensor, an array or a list.
        how: ``"product"`` (ML-VAE) or ``"average"`` (GVAE).
    """
    return GroupMessenger(sites, groups, how)


def share_pairs(sites: Sequence[str], how: How = "average") -> PairMessenger:
    """Handler of :class:`PairMessenger`: ``with share_pairs(["z"]): …``, or a decorator of a guide.

    Args:
        sites: names of the sites.
        how: ``"average"`` (Ada-GVAE) or ``"product"`` (Ada-ML-VAE).
    """
    return PairMessenger(sites, how)
