"""Latent parts whose blocks are independent, each of a shape to be learned: mixtures, posteriors, flows."""

import copy
from collections.abc import Mapping
from operator import index
from typing import Protocol, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.models.latents import SMALLEST_SCALE, Latents

__all__ = ["Clusters", "Flow", "VampPrior"]


class Clusters(Latents):
    r"""Gaussian blocks that are mixtures of components to be learned, which are summed out: no discrete site is needed.

    .. math:: p(z_d) = \sum_c w_{d,c} N(z_d; \mu_{d,c}, \sigma_{d,c})

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site, uniform.
        components: of each Gaussian site.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: less than one component, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        components: int = 10,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__(gaussian, discrete, temperature, relaxation)
        if index(components) < 1:
            raise ValueError(f"components must be 1 or more, got {components}")
        shapes = {name: (index(components), size) for name, size in self.gaussian.items()}
        # Components that start alike would stay alike.
        self.means = nn.ParameterDict({name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})
        one = torch.tensor(1.0).expm1().log()  # softplus makes 1 of it
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(one.expand(shape).clone()) for name, shape in shapes.items()}
        )
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.zeros(shape[0])) for name, shape in shapes.items()})

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the Gaussian sites, then the discrete ones."""
        blocks = {name: pyro.sample(name, self.mixture(name)) for name in self.gaussian}
        return blocks | self.sample_discrete(x)

    def mixture(self, name: str) -> dist.TorchDistribution:
        """The distribution of a Gaussian site."""
        scales = softplus(self.scales[name]) + SMALLEST_SCALE
        components = dist.Normal(self.means[name], scales).to_event(1)
        return _mixed(self.weights[name], components)


class _Guide(Protocol):
    """What gives its posteriors without sampling them, as the guides of pyro_hfvae.guides do."""

    def posteriors(self, x: Tensor, **covariates: Tensor) -> Mapping[str, Distribution]: ...


class VampPrior(Latents):
    r"""Gaussian blocks whose prior is a mixture of the guide's own posteriors at a few inputs.

    .. math:: p(z_d) = \sum_c w_{d,c}\, q(z_d | u_c)

    Tomczak and Welling, VAE with a VampPrior (AISTATS 2018), for each block by itself. It follows q(z) wherever that
    goes: with every datum as an input and equal weights it is the inference marginal of each block. The weights start
    equal and are learned. A configuration cannot name the guide; :class:`Clusters` is what comes closest there.

    Args:
        gaussian: name and number of variables of each Gaussian site, normal in the guide too.
        discrete: name and number of categories of each discrete site, uniform.
        guide: of the model, or anything with its ``posteriors``. It is trained as the guide, not as a part of this.
        inputs: u, ``[C, ...]``: some of the data to start from.
        learned: whether the inputs are learned. Codes of categories and counts cannot be; take data as they are.
        covariates: of the inputs, where the guide takes some, ``[C, ...]`` each; they stay as they are.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: no inputs, inputs to be learned that are not all finite, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        guide: _Guide,
        inputs: Tensor,
        learned: bool = True,
        covariates: Mapping[str, Tensor] | None = None,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__(gaussian, discrete, temperature, relaxation)
        if not len(inputs):
            raise ValueError("a VampPrior needs one input or more")
        if learned and not bool(inputs.isfinite().all()):
            raise ValueError("inputs with missing or infinite values cannot be learned: set learned=False")
        self._guide = (guide,)  # in a tuple it is no part of the model, whose parameters it would be
        if learned:
            self.inputs = nn.Parameter(inputs.detach().clone())
        else:
            self.register_buffer("inputs", inputs.detach().clone())
        self._covariates = list(covariates or {})
        for name, tensor in (covariates or {}).items():
            self.register_buffer(f"input_{name}", tensor.detach().clone())
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.zeros(len(inputs))) for name in self.gaussian})

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the Gaussian sites, then the discrete ones."""
        of_inputs = {name: cast(Tensor, getattr(self, f"input_{name}")) for name in self._covariates}
        posteriors = self._guide[0].posteriors(self.inputs, **of_inputs)
        blocks = {name: pyro.sample(name, self.mixture(name, posteriors)) for name in self.gaussian}
        return blocks | self.sample_discrete(x)

    def mixture(self, name: str, posteriors: Mapping[str, Distribution]) -> dist.TorchDistribution:
        """The distribution of a Gaussian site, from the guide's of it at the inputs.

        Raises:
            ValueError: the guide has no such site, or one that is not normal.
        """
        fn = posteriors.get(name)
        if not isinstance(fn, Independent) or not isinstance(fn.base_dist, Normal):
            found = "none" if fn is None else type(fn).__name__
            raise ValueError(f"the guide of a VampPrior must have a normal posterior of site '{name}', got {found}")
        return _mixed(self.weights[name], fn)


class Flow(Latents):
    r"""Gaussian blocks behind a normalizing flow, whatever shape it can learn.

    .. math:: z_d = f_d(\epsilon), \qquad \epsilon \sim N(0, I)

    Coupling layers (Dinh et al., Density estimation using Real NVP, ICLR 2017), the order of the variables reversed
    after each; a block of one variable has a spline (Durkan et al., Neural Spline Flows, NeurIPS 2019). A block of
    several is an *atom*: it has a joint density and no marginals of its variables, so it cannot be laid out into
    several blocks, and nothing is charged within it.

    Args:
        gaussian: name and number of variables of each Gaussian site of the guide.
        discrete: name and number of categories of each discrete site, uniform.
        layers: of each flow.
        hidden: units of the hidden layer of each coupling.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: less than one layer or hidden unit, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        layers: int = 4,
        hidden: int = 64,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__(gaussian, discrete, temperature, relaxation)
        if min(index(layers), index(hidden)) < 1:
            raise ValueError(f"layers and hidden must be 1 or more, got {layers} and {hidden}")
        self.flows = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    transforms.affine_coupling(size, [index(hidden)]) if size > 1 else transforms.Spline(1)
                    for _ in range(index(layers) if size > 1 else 1)
                )
                for name, size in self.gaussian.items()
            }
        )

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the Gaussian sites, then the discrete ones."""
        blocks = {name: pyro.sample(name, self.flow(name, x)) for name in self.gaussian}
        return blocks | self.sample_discrete(x)

    def flow(self, name: str, x: Tensor) -> dist.TorchDistribution:
        """The distribution of a Gaussian site."""
        size = self.gaussian[name]
        # A transform remembers its last use, whose graph a copy of the model could not copy: let a passing one do so.
        layers = [copy.copy(layer) for layer in cast(nn.ModuleList, self.flows[name])]
        if size == 1:
            base = dist.Normal(x.new_zeros(1), 1.0)
            return cast(dist.TorchDistribution, dist.TransformedDistribution(base, layers).to_event(1))
        turn = transforms.Permute(torch.arange(size - 1, -1, -1, device=x.device))
        steps = [step for layer in layers for step in (layer, turn)][:-1]
        return cast(dist.TorchDistribution, dist.TransformedDistribution(self.normal(size, x), steps))


def _mixed(weights: Tensor, components: Distribution) -> dist.TorchDistribution:
    return cast(dist.TorchDistribution, dist.MixtureSameFamily(dist.Categorical(logits=weights), components))
