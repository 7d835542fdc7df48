"""Posteriors made by hand, from locations, scales and logits, and E log q̂ of groups of their variables."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro.poutine import Trace
from torch import Size, Tensor

from pyro_hfvae.blocks import Variable
from pyro_hfvae.infer import Sample
from pyro_hfvae.infer.dependence import Dependence
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.infer.programs import Run
from pyro_hfvae.infer.traces import DataPlate
from pyro_hfvae.sites import read_site


class Group(NamedTuple):
    """Normal variables of a batch by their index, and categoricals by theirs."""

    normal: tuple[int, ...] = ()
    discrete: tuple[int, ...] = ()

    @property
    def variables(self):
        """As the library has it."""
        return variables(z=self.normal, **{f"y{place}": [0] for place in self.discrete})


@dataclass
class Batch:
    """V normal variables, [S, B, V] each, at the samples ``value``, and categoricals of [S, B, K] logits each."""

    value: Tensor
    loc: Tensor
    scale: Tensor
    logits: tuple[Tensor, ...] = ()

    @property
    def log_mass(self):
        """Log-masses of the categories, [S, B, K] of each categorical."""
        return tuple(part.log_softmax(-1) for part in self.logits)

    @property
    def leaves(self):
        """What gradients are taken of."""
        return [self.value, self.loc, self.scale, *self.logits]

    def map(self, change):
        """The batch with changed tensors."""
        value, loc, scale, *logits = map(change, self.leaves)
        return Batch(value, loc, scale, tuple(logits))

    def __getitem__(self, which):
        """Some of the data."""
        return self.map(lambda part: part[:, which])

    def leaf(self):
        """A copy whose tensors are leaves that want gradients."""
        return self.map(lambda part: part.detach().clone().requires_grad_())

    @property
    def sites(self):
        """A site 'z' of all normal variables, and sites 'y0', 'y1', ... of one categorical each."""
        found = {f"y{place}": read_site(f"y{place}", _categorical(part), _zeros(part)) for place, part in
                 enumerate(self.logits)}  # fmt: skip
        if self.loc.shape[-1] == 0:
            return found
        normal = dist.Normal(self.loc, self.scale, validate_args=False).to_event(1)
        return {"z": read_site("z", normal, self.value), **found}


def draw_batch(particles, batch, normal, categories, seed=0, dtype=torch.float64):
    """A batch of random parameters and samples."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(particles, batch, *shape, generator=generator, dtype=dtype)

    return Batch(draw(normal), draw(normal), draw(normal).abs() + 0.1, tuple(draw(k) for k in categories))


def variables(**indices):
    """A group of variables of sites, by name of the site."""
    return frozenset(Variable(site, index, "") for site, some in indices.items() for index in some)


def sample_of(sites, data=None, priors=None):
    """What an estimator is given of a batch.

    Args:
        sites: posteriors by name, at their samples; or a :class:`Batch`.
        data: the first argument of model and guide; none by default.
        priors: where they are conditional on covariates.
    """
    sites = sites.sites if isinstance(sites, Batch) else sites
    first = next(iter(sites.values()))
    shape = Size([1, 1, *first.fn.batch_shape][-2:])
    plate = DataPlate("data", -1, shape[-1], shape[-1], frozenset(sites))
    args = () if data is None else (data,)
    guide, model = (Run(print, args, {}, Trace(), plate, role) for role in ("guide", "model"))
    none = dict.fromkeys(sites, frozenset[str]())
    zeros = torch.zeros(shape, dtype=torch.get_default_dtype() if first.discrete else first.value.dtype)
    zeros = zeros.to(first.value.device)
    return Sample(
        guide=guide,
        model=model,
        dependence=Dependence(plate, none, none, conditional=priors is not None),
        shape=shape,
        posteriors=sites,
        priors=sites if priors is None else priors,
        log_likelihood=zeros,
        globals={},
        observed_once=zeros.new_zeros(()),
        scale=1.0,
    )


def log_aggregates(sites, groups, references, dtype=torch.float64):
    """E[log q̂] of groups of variables, [S, B] of each.

    Args:
        sites: posteriors by name, at their samples; or a :class:`Batch`.
        groups: of variables, frozen sets or :class:`Group`.
        references: weights, and a bank; the posteriors are those of the batch unless they are given too.
        dtype: of the sums over pairs.
    """
    sites = sites.sites if isinstance(sites, Batch) else sites
    references = references if references.parts else replace(references, parts=[sites])
    groups = [group.variables if isinstance(group, Group) else group for group in groups]
    return list(Factorised(sites, sites, references, dtype).aggregate_of_each(groups))


def estimated(marginal, batch, groups, data_size, data=None, dtype=torch.float64):
    """The same with the references of an estimator."""
    return log_aggregates(batch, groups, marginal.references(sample_of(batch, data), data_size), dtype)


def _categorical(logits):
    return dist.Categorical(logits=logits[..., None, :], validate_args=False).to_event(1)


def _zeros(logits):
    return torch.zeros(*logits.shape[:-1], 1, dtype=torch.int64, device=logits.device)
