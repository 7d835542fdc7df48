"""The gradient of every term against central differences, in float64, with the noise held fixed."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import seeded
from pyro.distributions import transforms
from support import numbers

from pyro_hfvae import Concrete, HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, V, K = 8, 2, 3
STEP = 1e-5


class Programs:
    """A model and a guide of parameters that are made on first use, the same for a name."""

    def __init__(self, model, guide):
        self.parameters, self._model, self._guide = {}, model, guide

    def parameter(self, name, *shape):
        if name not in self.parameters:
            value = 0.5 * numbers(*shape, seed=len(self.parameters) + 1)
            self.parameters[name] = value.requires_grad_()
        return self.parameters[name]

    def model(self, x):
        self._model(self.parameter, x)

    def guide(self, x):
        self._guide(self.parameter, x)


def observe(parameter, x, z):
    pyro.sample("x", dist.Normal(z @ parameter("decoder", z.shape[-1], V), 0.8).to_event(1), obs=x)


def normal(parameter, x):
    """The parameters of q(z|x)."""
    return x @ parameter("loc", V, V), (0.3 * x @ parameter("scale", V, V) - 0.5).exp()


def encode(parameter, x, beside=lambda parameter, x: None):
    """q(z|x), and another site of the same plate."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(*normal(parameter, x)).to_event(1))
        beside(parameter, x)


def prior_of(make):
    def model(parameter, x):
        with pyro.plate("data", len(x)):
            observe(parameter, x, pyro.sample("z", make(parameter)))

    return model


def guide_of(make):
    def guide(parameter, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", make(parameter, x))

    return guide


def standard(parameter):
    return dist.Normal(torch.zeros(V), 1.0).to_event(1)


def learned_mixture(parameter):
    components = dist.Normal(parameter("means", K, V), parameter("spreads", K, V).exp()).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(logits=parameter("weights", K)), components)


def vamp(parameter):
    components = dist.Normal(*normal(parameter, parameter("pseudo", K, V))).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(K)), components)


def correlated(parameter):
    return dist.MultivariateNormal(parameter("mean", V), scale_tril=torch.eye(V) + parameter("root", V, V).tril(-1))


def gaussian_processes(parameter):
    root = torch.eye(V) + parameter("root", V, V).tril(-1)
    return dist.MultivariateNormal(torch.zeros(2, V), scale_tril=root).to_event(1)


def shear(parameter):
    """A flow: of several variables together, with parameters to learn."""
    root = torch.eye(V) + parameter("root", V, V).tril(-1)
    return [
        transforms.LowerCholeskyAffine(parameter("mean", V), root),
        transforms.TanhTransform(),
        transforms.AffineTransform(0.0, 3.0),
    ]


def full_covariance(parameter, x):
    root = 0.5 * torch.eye(V) + parameter("of q", V, V).tril(-1)
    return dist.MultivariateNormal(x @ parameter("loc", V, V), scale_tril=root)


def flow_guide(parameter, x):
    loc, scale = normal(parameter, x)
    return dist.TransformedDistribution(dist.Normal(0.3 * loc, 0.3 * scale).to_event(1), shear(parameter))


def hierarchy(parameter, x):
    with pyro.plate("data", len(x)):
        top = pyro.sample("top", standard(parameter))
        z = pyro.sample("z", dist.Normal(top @ parameter("down", V, V), 0.8).to_event(1))
        observe(parameter, x, z)


def encode_both(parameter, x):
    def top(parameter, x):
        pyro.sample("top", dist.Normal(x @ parameter("of top", V, V), 0.6).to_event(1))

    encode(parameter, x, top)


def bottom_up(parameter, x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(*normal(parameter, x)).to_event(1))
        pyro.sample("top", dist.Normal(z @ parameter("up", V, V), 0.6).to_event(1))


def two_sites(parameter, x):
    with pyro.plate("data", len(x)):
        top, z = pyro.sample("top", standard(parameter)), pyro.sample("z", standard(parameter))
        observe(parameter, x, top + z)


def mixture_of_sites(parameter, x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.OneHotCategorical(logits=parameter("weights", K)))
        z = pyro.sample("z", dist.Normal(y @ parameter("means", K, V), 0.8).to_event(1))
        observe(parameter, x, z + y @ parameter("of y", K, V))


def encode_category(relaxed):
    def category(parameter, x):
        logits = x @ parameter("logits", V, K)
        pyro.sample("y", Concrete(0.7, logits=logits) if relaxed else dist.OneHotCategorical(logits=logits))

    return lambda parameter, x: encode(parameter, x, category)


def spike_and_slab(parameter, x):
    with pyro.plate("data", len(x)):
        s = pyro.sample("s", dist.Bernoulli(logits=parameter("rate", V)).to_event(1))
        scale = torch.where(s > 0.5, parameter("slab", V).exp(), 0.3 * torch.ones(V))
        observe(parameter, x, pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1)))


def encode_spikes(parameter, x):
    def spikes(parameter, x):
        pyro.sample("s", dist.Bernoulli(logits=x @ parameter("spikes", V, V)).to_event(1))

    encode(parameter, x, spikes)


def conditional(parameter, x):
    """p(z|c), the covariate c being a half of x here."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x[:, :1] @ parameter("of c", 1, V), parameter("spread", V).exp()).to_event(1))
        observe(parameter, x, z)


def conditional_hierarchy(parameter, x):
    with pyro.plate("data", len(x)):
        top = pyro.sample("top", dist.Normal(x[:, :1] @ parameter("of c", 1, V), 0.9).to_event(1))
        z = pyro.sample("z", dist.Normal(top @ parameter("down", V, V) + x[:, :1], 0.8).to_event(1))
        observe(parameter, x, z)


def learned_scale(parameter, x):
    scale = pyro.sample("w", dist.LogNormal(parameter("prior of w", 1)[0], 1.0))
    with pyro.plate("data", len(x)):
        observe(parameter, x, pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1)))


def encode_scale(parameter, x):
    pyro.sample("w", dist.LogNormal(parameter("w", 1)[0], parameter("spread of w", 1)[0].exp()))
    encode(parameter, x)


def weight_decay(parameter, x):
    """An observed site and a factor outside the plate."""
    decoder = parameter("decoder", V, V)
    pyro.sample("prior", dist.Normal(0.0, 1.0).expand([V, V]).to_event(2), obs=decoder)
    pyro.factor("sparse", -decoder.square().sum().sqrt())
    prior_of(standard)(parameter, x)


def objects(parameter, x):
    with pyro.plate("data", len(x), dim=-2):
        with pyro.plate("objects", 3, dim=-1):
            z = pyro.sample("z", standard(parameter))  # [B, 3, V]
        observe(parameter, x[:, None], z.sum(-2, keepdim=True))


def encode_objects(parameter, x):
    loc, scale = normal(parameter, x)
    shifts = parameter("shifts", 3, V)
    with pyro.plate("data", len(x), dim=-2), pyro.plate("objects", 3, dim=-1):
        pyro.sample("z", dist.Normal(loc[:, None] + shifts, scale[:, None]).to_event(1))


def encode_processes(parameter, x):
    loc, scale = normal(parameter, x)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.stack([loc, -loc], -2), scale[:, None]).to_event(2))


def processes_model(parameter, x):
    with pyro.plate("data", len(x)):
        observe(parameter, x, pyro.sample("z", gaussian_processes(parameter)).sum(-2))


def of_unit_interval(parameter):
    shape = parameter("shape", 2, V).exp()
    return dist.Kumaraswamy(shape[0], 1.0 + shape[1]).to_event(1)


PROGRAMS = {
    "independent": (prior_of(standard), encode),
    "mixture": (prior_of(learned_mixture), encode),
    "VampPrior": (prior_of(vamp), encode),
    "correlated": (prior_of(correlated), encode),
    "Gaussian processes": (processes_model, encode_processes),
    "Laplace guide": (prior_of(standard), guide_of(lambda p, x: dist.Laplace(*normal(p, x)).to_event(1))),
    "Gumbel guide": (prior_of(standard), guide_of(lambda p, x: dist.Gumbel(*normal(p, x)).to_event(1))),
    "unit interval": (
        prior_of(of_unit_interval),
        guide_of(lambda p, x: dist.Kumaraswamy(*(1 + part.exp() for part in normal(p, x))).to_event(1)),
    ),
    "full covariance": (
        prior_of(correlated),
        guide_of(full_covariance),
    ),
    "flow": (prior_of(standard), guide_of(flow_guide)),
    "hierarchy": (hierarchy, encode_both),
    "structured guide": (two_sites, bottom_up),
    "structured on both sides": (hierarchy, bottom_up),
    "mixture of sites": (mixture_of_sites, encode_category(False)),
    "relaxed mixture of sites": (mixture_of_sites, encode_category(True)),
    "spike and slab": (spike_and_slab, encode_spikes),
    "conditional": (conditional, encode),
    "conditional hierarchy": (conditional_hierarchy, encode_both),
    "global latent": (learned_scale, encode_scale),
    "outside the plate": (weight_decay, encode),
    "plate of objects": (objects, encode_objects),
}


def every_term(terms):
    """All terms by name: of the whole, of blocks and variables, of global latents."""
    found = dict(terms.scalars())
    found |= {f"globals/{name}": term for name, term in getattr(terms, "globals", {}).items()}
    if isinstance(getattr(terms, "prior_information", None), torch.Tensor):
        found["prior_information"] = terms.prior_information
    for name, block in terms.blocks.items():
        for term in ("mutual_information", "within", "dimension"):
            found[f"{name}/{term}"] = getattr(block, term)
        for variable, of_variable in block.variables.items():
            found[f"{variable}/mutual_information"] = of_variable.mutual_information
            found[f"{variable}/dimension"] = of_variable.dimension
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient_of_every_term(name):
    """Along a random direction of all parameters.

    A central difference of step h is off by h² times a third derivative, 1e-10, and by rounding over h, 1e-10.
    """
    programs, x = Programs(*PROGRAMS[name]), numbers(N, V)
    guide = seeded(programs.guide)

    def measure():
        return every_term(HierarchicalELBO(N, prior_samples=20, guide_samples=20).terms(programs.model, guide, x))

    terms = measure()
    parameters = list(programs.parameters.values())
    direction = [numbers(*parameter.shape, seed=100 + index) for index, parameter in enumerate(parameters)]
    slopes = {}
    for term, value in terms.items():
        gradient = [None] * len(parameters)
        if value.requires_grad:
            gradient = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        slopes[term] = sum(
            float((part * along).sum()) for part, along in zip(gradient, direction, strict=True) if part is not None
        )
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += sign * STEP * along
        values.append({term: float(value) for term, value in measure().items()})
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter -= sign * STEP * along
    for term, slope in slopes.items():
        difference = (values[0][term] - values[1][term]) / (2 * STEP)
        assert slope == pytest.approx(difference, rel=1e-5, abs=1e-6), term


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient_of_the_loss_reaches_every_parameter(name):
    programs, x = Programs(*PROGRAMS[name]), numbers(N, V)
    loss = HierarchicalELBO(N, between=2.0, within=1.5, dimension=0.5).differentiable_loss(
        programs.model, seeded(programs.guide), x
    )
    for name, gradient in zip(
        programs.parameters, torch.autograd.grad(loss, list(programs.parameters.values())), strict=True
    ):
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name
