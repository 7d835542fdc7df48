"""Latent parts whose blocks depend on one another: a mixture, a hierarchy, a correlation."""

from collections.abc import Mapping
from operator import index
from typing import cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.models.latents import SMALLEST_SCALE, Latents, normal_of

__all__ = ["Correlated", "Hierarchy", "Mixture"]


class Mixture(Latents):
    r"""Gaussian blocks that have a component for each category of a discrete block.

    .. math:: y \sim \mathrm{Concrete}(1/K), \qquad z_d | y \sim N(\mu_d^\top y, \sigma_d^\top y)

    with means and scales to be learned: a mixture of Gaussians once y is summed out.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        given: Gaussian site to the discrete site that chooses its component; the other sites are standard normal.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: ``given`` names a site that is not there, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        given: Mapping[str, str],
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__(gaussian, discrete, temperature, relaxation)
        for kind, known, names in (("Gaussian", gaussian, given), ("discrete", discrete, given.values())):
            for name in names:
                if name not in known:
                    raise ValueError(f"'given' names '{name}', which is no {kind} site; those are: {', '.join(known)}")
        self.given = dict(given)
        shapes = {name: (self.discrete[site], self.gaussian[name]) for name, site in given.items()}
        # Components that start alike would stay alike.
        self.means = nn.ParameterDict({name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})
        one = torch.tensor(1.0).expm1().log()  # softplus makes 1 of it
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(one.expand(shape).clone()) for name, shape in shapes.items()}
        )

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the discrete sites, then the Gaussian ones given theirs."""
        values = self.sample_discrete(x)
        for name, size in self.gaussian.items():
            fn = self.component(name, values[self.given[name]]) if name in self.given else self.normal(size, x)
            values[name] = pyro.sample(name, fn)
        return values

    def component(self, name: str, y: Tensor) -> dist.TorchDistribution:
        """The Gaussian of a site given weights of its components, ``[..., K]``."""
        means = self.means[name]
        scales = softplus(self.scales[name]) + SMALLEST_SCALE
        y = y.to(means)  # Concrete samples are float32 or wider
        return cast(dist.TorchDistribution, dist.Normal(y @ means, y @ scales).to_event(1))


class Hierarchy(Latents):
    r"""A chain of Gaussian blocks, each the cause of the next.

    .. math:: z_1 \sim N(0, I), \qquad z_d | z_{d-1} \sim N(\mu_d(z_{d-1}), \sigma_d(z_{d-1}))

    The data are made from the last of them, and from the discrete blocks, which stand apart.

    Args:
        gaussian: name and number of variables of each Gaussian site, from the top.
        discrete: name and number of categories of each discrete site.
        hidden: units of the hidden layer between two Gaussian sites.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: no Gaussian site, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        hidden: int = 64,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        self.decoded(gaussian, discrete)  # refuses a chain without links
        super().__init__(gaussian, discrete, temperature, relaxation)
        pairs = zip(self.gaussian.values(), list(self.gaussian.items())[1:], strict=False)
        self.conditionals = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(above, index(hidden)), nn.Tanh(), nn.Linear(index(hidden), 2 * size))
                for above, (name, size) in pairs
            }
        )

    @staticmethod
    def decoded(gaussian: Mapping[str, int], discrete: Mapping[str, int]) -> dict[str, int]:
        """The last Gaussian site and the discrete ones."""
        if not gaussian:
            raise ValueError("a hierarchy needs one Gaussian site or more")
        last = list(gaussian)[-1]
        return {last: gaussian[last], **discrete}

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the Gaussian sites from the top, and the discrete ones."""
        values: dict[str, Tensor] = {}
        above = x
        for name, size in self.gaussian.items():
            fn = self.conditional(name, above) if values else self.normal(size, x)
            above = values[name] = pyro.sample(name, fn)
        return values | self.sample_discrete(x)

    def conditional(self, name: str, above: Tensor) -> dist.TorchDistribution:
        """The Gaussian of a site given the one above it, ``[..., V above]``."""
        network = cast(nn.Sequential, self.conditionals[name])
        return normal_of(network(above.to(next(network.parameters()))))


class Correlated(Latents):
    r"""Gaussian blocks of unit variance whose variables have a correlation to be learned.

    .. math:: z_d \sim N(0, L_d L_d^\top), \qquad \sum_j L_{d,ij}^2 = 1

    Lay the variables of one site out into several blocks, and the blocks correlate. It starts from independence.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__(gaussian, discrete, temperature, relaxation)
        self.below_diagonal = nn.ParameterDict(
            {
                name: nn.Parameter(torch.zeros(size * (size - 1) // 2))
                for name, size in self.gaussian.items()
                if size > 1
            }
        )

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples every site; those of one variable are standard normal."""
        values = {}
        for name, size in self.gaussian.items():
            factor = self.scale_tril(name)
            correlated = dist.MultivariateNormal(factor.new_zeros(size), scale_tril=factor)
            values[name] = pyro.sample(name, correlated)
        return values | self.sample_discrete(x)

    def scale_tril(self, name: str) -> Tensor:
        """The Cholesky factor L of a site's correlation, ``[V, V]``; float32 or wider: bfloat16 has no solver."""
        size = self.gaussian[name]
        below = self.below_diagonal[name] if size > 1 else self.temperature.new_zeros(0)
        below = below.to(torch.promote_types(below.dtype, torch.float32))
        row, column = torch.tril_indices(size, size, -1, device=below.device)
        factor = torch.eye(size).to(below).index_put((row, column), below)
        return cast(Tensor, factor / factor.norm(dim=-1, keepdim=True))
