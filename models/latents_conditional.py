"""A latent part that is given covariates: a condition of the experiment, a batch, an age."""

from collections.abc import Mapping, Sequence
from operator import index

import pyro
from torch import Tensor, nn

from pyro_hfvae.covariates import covariate_widths, join_covariates, widths_of
from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.models.latents import Latents, normal_of

__all__ = ["Conditional"]


class Conditional(Latents):
    r"""Blocks whose prior depends on covariates of the datum: z need not encode again what these account for.

    .. math:: z_d | c \sim N(\mu_d(c), \sigma_d(c)), \qquad y_d | c \sim \mathrm{Concrete}(\pi_d(c))

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        given: the covariates by name, with their numbers of entries unless the data are given.
        hidden: units of the hidden layer between covariates and each site.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        data: whose covariates these are.

    Raises:
        ValueError: no covariate, one that the data lack, one of unknown size, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        given: Mapping[str, int] | Sequence[str],
        hidden: int = 64,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        data: Data | None = None,
    ) -> None:
        super().__init__(gaussian, discrete, temperature, relaxation)
        if not given:
            raise ValueError("a conditional prior needs one covariate or more")
        self.given = widths_of(given, covariate_widths(data))
        width = sum(self.given.values())
        sizes = {name: 2 * size for name, size in self.gaussian.items()} | self.discrete
        self.conditionals = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, index(hidden)), nn.Tanh(), nn.Linear(index(hidden), size))
                for name, size in sizes.items()
            }
        )

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the Gaussian sites, then the discrete ones."""
        c = join_covariates(self.given, covariates, next(self.parameters()))  # [B, width]
        blocks = {name: pyro.sample(name, normal_of(self.conditionals[name](c))) for name in self.gaussian}
        return blocks | {name: pyro.sample(name, self.categories(self.conditionals[name](c))) for name in self.discrete}
