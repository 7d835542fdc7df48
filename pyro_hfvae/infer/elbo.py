"""The evidence lower bound, split into its information-theoretic terms and reweighted (HFVAE)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from torch import Tensor

from pyro_hfvae.batch import AnyBatch
from pyro_hfvae.blocks import JOINT, Layout
from pyro_hfvae.infer.estimators import Marginal, Minibatch
from pyro_hfvae.infer.module import HierarchicalModule
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.programs import Program
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Capacity, Weight, check_weights, cost, each, resolve_weights, scheduled
from pyro_hfvae.schedules import Schedule, value_at

__all__ = ["HierarchicalELBO"]

WEIGHTS = ("mutual_information", "between", "within", "dimension")


class HierarchicalELBO(ELBO):
    r"""An ELBO whose terms between and within blocks of latents are weighted each on its own.

    .. math::
        L = E[\log p(x|z)] - \sum_d \alpha_d I(x; z_d | z_{<d}) - \beta A - \sum_d \gamma_d i_d
            - \sum_d \delta_d \sum_e KL(q(z_{d,e}) \| p(z_{d,e}))

    Esmaeili et al., Structured Disentangled Representations (AISTATS 2019). With every weight 1 this is the
    ordinary ELBO; (1, b, b, 1) is beta-TCVAE, (b, b, b, b) beta-VAE. A discrete site enters by the mass
    of its categories, summed over exactly, never by the density of its relaxation; its relaxed sample goes to the
    decoder. One that the guide does not relax, a one-hot categorical or Bernoulli, is summed over in the likelihood
    too: the model is run on every combination of their categories, and no noise comes from them.

    A weight is a number, a schedule over training steps, or a :class:`Capacity` that the term is held at. One weight
    serves all blocks; a mapping gives each its own. All weights default to 1: the ordinary ELBO, to rounding.
    (:class:`~pyro_hfvae.infer.HFVAE` does not penalise the information of discrete blocks by default.)

    It is a ``pyro.infer.ELBO``: hand it to ``pyro.infer.SVI`` as the loss, or call it on model and guide to get a
    :class:`~pyro_hfvae.infer.HierarchicalModule`, which owns all state: what depends on what, the estimator with its
    memory, learned penalties, and the number of training steps. The methods here that take model and guide act on the
    module of the last pair; another model or guide gets a new one. As everywhere in Pyro the loss is a sum over the
    batch, with the scale that a subsampling plate gives it; the terms are means in nats per datum.

    The latent sites of the guide may depend on one another, q(y|x) q(z|x, y): q(z^b|x^m, y^b) then comes from running
    the guide again, for every pair of a sample and a datum. A guide that does not allow that is refused on first use.
    Those of the model may depend on one another too: A, i and the divergence of each variable are then divergences from
    the prior's own joint and marginals, so that a structured prior pulls q(z) towards its structure; with unequal
    weights their normalisers keep the objective bounded (:mod:`pyro_hfvae.infer.bounds`). A prior that is conditional
    on covariates counts by its aggregate, (1/N) Σ p(z|c_n). Latents outside the plate of the data are global and count
    once per data set.

    Args:
        data_size: N, the number of data that batches are drawn from.
        mutual_information: weight alpha of I(x; z), or block name to that of I(x; z_d | the blocks before it), where
            discrete blocks come first and below 0 rewards.
        between: weight beta of the total correlation between blocks; in a deeper tree one for each level from the
            top, or group name to weight, where "joint" names the group of everything.
        within: weight gamma of the total correlation of the variables within each block, or block name to weight.
        dimension: weight delta of the divergence of each variable's marginal from its prior, or block name to weight.
        blocks: block name to parts of sites, or group name to blocks, to any depth; see
            :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.
        penalties: what else is charged, by name; each module has copies of its own.
        marginal: the estimator of the inference marginal q(z); :class:`~pyro_hfvae.infer.estimators.Minibatch`, the
            paper's, by default; each module has a copy of its own.
        num_particles: S, samples for each datum, averaged.
        vectorize_particles: draw the samples in one run, with S as leading dimension.
        max_plate_nesting: as in Pyro.
        prior_samples: P, ancestral samples of the model for the marginals of priors that depend on other continuous
            sites; no others pay for them.
        guide_samples: P, ancestral samples of the guide for each datum, and for the other data together, for the
            marginals of sites of the guide that depend on other continuous sites; no others pay for them.

    Raises:
        ValueError: data_size, num_particles, prior_samples or guide_samples below 1, or a weight that is not finite;
            on first use, weights whose names or levels are not those of the blocks.
    """

    def __init__(
        self,
        data_size: int,
        mutual_information: Weight | dict[str, Weight] = 1.0,
        between: Weight | list[Weight] | dict[str, Weight] = 1.0,
        within: Weight | dict[str, Weight] = 1.0,
        dimension: Weight | dict[str, Weight] = 1.0,
        blocks: Layout | None = None,
        penalties: dict[str, Penalty] | None = None,
        marginal: Marginal | None = None,
        num_particles: int = 1,
        vectorize_particles: bool = False,
        max_plate_nesting: float = float("inf"),
        prior_samples: int = 1000,
        guide_samples: int = 100,
    ) -> None:
        super().__init__(
            num_particles=num_particles, vectorize_particles=vectorize_particles, max_plate_nesting=max_plate_nesting
        )
        counts = {"data_size": data_size, "num_particles": num_particles}
        counts |= {"prior_samples": prior_samples, "guide_samples": guide_samples}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be 1 or more, got {count}")
        self.data_size = int(data_size)
        self.guide_samples = guide_samples
        self.prior_samples = prior_samples
        self.mutual_information = mutual_information
        self.between = between
        self.within = within
        self.dimension = dimension
        for name in WEIGHTS:
            check_weights(name, getattr(self, name))
        self.blocks = blocks
        self.penalties = dict(penalties or {})
        self.marginal = Minibatch() if marginal is None else marginal
        self._module: HierarchicalModule | None = None

    def __call__(self, model: Program, guide: Program) -> HierarchicalModule:
        """The module of a model and a guide: the same one as long as these are the same objects."""
        module = self._module
        if module is None or module.model != model or module.guide != guide:
            module = self._module = HierarchicalModule(model, guide, self)
        return module

    def __getstate__(self) -> dict[str, Any]:
        """The settings; the module of the last pair stays behind."""
        return {**self.__dict__, "_module": None}

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        """Pyro asks every ELBO for this; here the module runs the programs."""
        raise NotImplementedError

    def terms(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Terms:
        """:meth:`HierarchicalModule.terms` of the module of model and guide."""
        return self(model, guide).terms(*args, **kwargs)

    def aggregate_terms(self, model: Program, guide: Program, batches: Iterable[AnyBatch]) -> Terms:
        """:meth:`HierarchicalModule.aggregate_terms` of the module of model and guide."""
        return self(model, guide).aggregate_terms(batches)

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the weighted ELBO, summed over the batch and scaled as by the programs' plates."""
        loss: Tensor = self(model, guide)(*args, **kwargs)
        return loss

    @torch.no_grad()
    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The value of :meth:`differentiable_loss`."""
        return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))  # type: ignore[no-any-return]

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The value of :meth:`differentiable_loss`, after a backward pass and a step of the module: for SVI."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        self(model, guide).step()
        return torch_item(loss)  # type: ignore[no-any-return]

    @property
    def steps(self) -> int:
        """Training steps done with the last model and guide, which schedules follow."""
        return 0 if self._module is None else self._module.steps

    def objective(self, terms: Terms) -> Tensor:
        """The weighted ELBO that is maximised, a scalar in nats per datum, at the present step."""
        return self.objective_at(terms, self.steps)

    def costs(self, terms: Terms) -> dict[str, Tensor]:
        """What the objective takes off the reconstruction at the present step; see :meth:`costs_at`."""
        return self.costs_at(terms, self.steps)

    def scheduled_weights(self) -> dict[str, float]:
        """The weights that follow a schedule, at the present step, by name."""
        found = [scheduled(name, getattr(self, name), self.steps) for name in WEIGHTS]
        found += [scheduled(name, penalty.weight, self.steps) for name, penalty in self.penalties.items()]
        return {name: value for part in found for name, value in part.items()}

    def objective_at(self, terms: Terms, step: int) -> Tensor:
        """The weighted ELBO at a training step."""
        return terms.reconstruction - sum(self.costs_at(terms, step).values())

    def costs_at(self, terms: Terms, step: int) -> dict[str, Tensor]:
        """What the objective takes off the reconstruction: each term with its weight at a step, scalars in nats.

        A dependence term whose prior has a dependence too is charged with its normaliser where weights differ
        (:mod:`pyro_hfvae.infer.bounds`). Global latents are charged at weight 1.
        """
        least = self.least_weight(step)

        def charged(weight: Weight, term: Tensor, log_normaliser: Tensor) -> Tensor:
            if isinstance(weight, Capacity) or value_at(weight, step) == least:
                return cost(weight, term, step)
            return torch.add(cost(weight, term, step), log_normaliser, alpha=value_at(weight, step) - least)

        def total(charges: Iterable[Tensor]) -> Tensor:
            first, *more = charges
            return torch.stack([first, *more]).sum() if more else first

        blocks = terms.blocks
        level = dict.fromkeys(blocks, 0)
        within = resolve_weights("within", self.within, level)
        dimension = resolve_weights("dimension", self.dimension, level)
        groups = {JOINT: (terms.between, terms.log_normaliser)}
        groups |= {name: (group.between, group.log_normaliser) for name, group in terms.groups.items()}
        levels = {JOINT: 0} | {name: group.level for name, group in terms.groups.items()}
        between = resolve_weights("between", self.between, levels)
        costs = {
            "mutual_information": self._information_cost(terms, step),
            "between": total(charged(between[name], *parts) for name, parts in groups.items()),
            "within": total(charged(within[name], b.within, b.log_normaliser) for name, b in blocks.items()),
            "dimension": total(cost(dimension[name], block.dimension, step) for name, block in blocks.items()),
        }
        if terms.globals:
            costs["globals"] = total(terms.globals.values())
        for name, measure in terms.penalties.items():
            costs[name] = self.penalties[name].cost(measure, terms, step)
        return costs

    def _information_cost(self, terms: Terms, step: int) -> Tensor:
        given = self.information_weights(terms)
        if not isinstance(given, Mapping):
            return cost(given, terms.mutual_information - terms.prior_information, step)
        weights = resolve_weights("mutual_information", given, dict.fromkeys(terms.blocks, 0))
        charges = [cost(weights[name], block.conditional_information, step) for name, block in terms.blocks.items()]
        return torch.stack(charges).sum()

    def information_weights(self, terms: Terms) -> Weight | Mapping[str, Weight]:
        """The weights of the information, for all blocks or by block."""
        return self.mutual_information

    def least_weight(self, step: int) -> float:
        """The least of the weights of dependence and dimension at a step; 0 where one is a capacity."""
        return min(0.0 if isinstance(w, Capacity) else value_at(w, step) for w in self._divergence_weights)

    def equal_weights(self, step: int) -> bool:
        """Whether dependence and dimension have one weight at a step, so that no normaliser is needed."""
        values = {w if isinstance(w, Capacity) else value_at(w, step) for w in self._divergence_weights}
        return len(values) == 1 and not any(isinstance(value, Capacity) for value in values)

    @property
    def _divergence_weights(self) -> list[Weight]:
        return [weight for name in WEIGHTS[1:] for weight in each(getattr(self, name))]

    def marginal_cancels(self, step: int) -> bool:
        """Whether the objective at a step is a sum of the terms in which no log q̂ is left."""
        weights = [getattr(self, name) for name in WEIGHTS]
        if any(not isinstance(weight, float | int | Schedule) for weight in weights):
            return False
        methods = ("objective_at", "costs_at", "information_weights", "objective", "costs")
        own = all(getattr(type(self), name) is getattr(HierarchicalELBO, name) for name in methods)
        needed = any(penalty.needs_split for penalty in self.penalties.values())
        return own and not needed and len({value_at(weight, step) for weight in weights}) == 1
