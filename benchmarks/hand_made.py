"""Posteriors made by hand for the benchmarks of estimators: sites, what an estimator is given of them, and E log q̂."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyro.distributions as dist
import torch
from pyro.poutine import Trace
from torch import Size, Tensor

from pyro_hfvae.blocks import Group, Variable
from pyro_hfvae.infer import Sample
from pyro_hfvae.infer.dependence import Dependence
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.infer.programs import Run
from pyro_hfvae.infer.references import References
from pyro_hfvae.infer.traces import DataPlate
from pyro_hfvae.sites import NormalSite, Site, read_site


def group(**indices: Iterable[int]) -> Group:
    """Variables of sites, by name of the site."""
    return frozenset(Variable(site, index, "") for site, some in indices.items() for index in some)


def normal(value: Tensor, loc: Tensor, scale: Tensor) -> NormalSite:
    """A site 'z' of independent normal variables, [B, V]."""
    site = read_site("z", dist.Normal(loc, scale, validate_args=False).to_event(1), value)
    assert isinstance(site, NormalSite)
    return site


def sample_of(sites: Mapping[str, Site], data: Tensor | None = None) -> Sample:
    """What an estimator is given of a batch whose first argument is ``data``."""
    (batch,) = next(iter(sites.values())).fn.batch_shape
    plate = DataPlate("data", -1, batch, batch, frozenset(sites))
    args = () if data is None else (data,)
    guide, model = (Run(print, args, {}, Trace(), plate, role) for role in ("guide", "model"))
    none = dict.fromkeys(sites, frozenset[str]())
    zeros = torch.zeros(1, batch)
    dependence = Dependence(plate, none, none, conditional=False)
    return Sample(guide, model, dependence, Size((1, batch)), sites, sites, zeros, {}, zeros.sum(), 1.0)


def log_aggregates(sites: Mapping[str, Site], groups: Sequence[Group], references: References) -> list[Tensor]:
    """E[log q̂(z_G)] of some groups, [1, B] each."""
    found = Factorised(sites, sites, replace(references, parts=[sites]), torch.get_default_dtype())
    return list(found.aggregate_of_each(groups))
