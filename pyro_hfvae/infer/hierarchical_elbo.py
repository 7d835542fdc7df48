"""The evidence lower bound, split into its information-theoretic terms and reweighted (HFVAE)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.blocks import JOINT, Layout
from pyro_hfvae.infer.checks import Dependence, check_enumeration, read_dependence, refuse_non_finite
from pyro_hfvae.infer.enumeration import expected_log_likelihood, with_every_combination
from pyro_hfvae.infer.estimators import Full, Marginal, Stratified
from pyro_hfvae.infer.guides import NO_MEMORY, StructuredPosterior, read_structured_posterior
from pyro_hfvae.infer.latents import (
    Latents,
    common_scale,
    concatenate,
    read_posteriors,
    tree_of,
)
from pyro_hfvae.infer.penalties.learned import LearnedPenalty
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.priors import Priors, concatenate_priors, groups_of_priors, read_priors
from pyro_hfvae.infer.rerun import Call
from pyro_hfvae.infer.run import Run
from pyro_hfvae.infer.split import gather, groups_of_terms, split_elbo
from pyro_hfvae.infer.terms import Terms, mean_terms
from pyro_hfvae.infer.trust import Watch
from pyro_hfvae.infer.weights import Weight, check_finite, cost, resolve_weights, scheduled
from pyro_hfvae.schedules import Schedule, value_at

__all__ = ["HierarchicalELBO"]

Program = Callable[..., Any]
_WEIGHTS = ("mutual_information", "between", "within", "dimension")


class HierarchicalELBO(ELBO):
    r"""An ELBO whose terms between and within blocks of latents are weighted each on its own.

    .. math::
        L = E[\log p(x|z)] - \sum_d \alpha_d I(x; z_d | z_{<d}) - \beta A - \sum_d \gamma_d i_d
            - \sum_d \delta_d \sum_e KL(q(z_{d,e}) \| p(z_{d,e}))

    Esmaeili et al., Structured Disentangled Representations (AISTATS 2019). With every weight 1 this is the
    ordinary ELBO, to rounding; (1, b, b, 1) is beta-TCVAE, (b, b, b, b) beta-VAE. A discrete site enters by the mass
    of its categories, summed over exactly, never by the density of its relaxation; its relaxed sample goes to the
    decoder. One that the guide does not relax, a one-hot categorical or Bernoulli, is summed over in the likelihood
    too: the model is run on every combination of their categories, and no noise comes from them.

    A weight is a number, a schedule over ``step``, or a :class:`Capacity` that the term is held at. One weight serves
    all blocks; a mapping gives each its own. By default every weight is 1, save one: where discrete blocks stand beside
    others, what a discrete block tells of x is free. At the price of the ordinary ELBO such a block falls silent at
    once, because the others can say the same. Give ``mutual_information=1`` for the ordinary ELBO.

    It is a ``pyro.infer.ELBO``: hand it to ``pyro.infer.SVI`` as the loss, or call it on model and guide to get a
    ``torch.nn.Module`` whose output is the loss. As everywhere in Pyro the loss is a sum over the batch, with the
    scale that a subsampling plate gives it; the terms are means in nats per datum.

    The latent sites of the guide may depend on one another, q(y|x) q(z|x, y): q(z^b|x^b', y^b) then comes from running
    the guide again, for every pair of a sample and a datum. A guide that does not allow that is refused on first use.
    Those of the model may depend on one another too: A, i and the divergence of each variable are then set against the
    prior's own joint and marginals, so that a structured prior pulls q(z) towards its structure. One instance serves
    one pair of model and guide.

    Args:
        data_size: N, the number of data that batches are drawn from.
        mutual_information: weight alpha of I(x; z), or block name to that of I(x; z_d | the blocks before it), where
            discrete blocks come first and below 0 rewards; 1 by default, but 0 for discrete blocks beside others.
        between: weight beta of the total correlation between blocks; in a deeper tree one for each level from the
            top, or group name to weight, where "joint" names the group of everything.
        within: weight gamma of the total correlation of the variables within each block, or block name to weight.
        dimension: weight delta of the divergence of each variable's marginal from its prior, or block name to weight.
        blocks: block name to parts of sites, or group name to blocks, to any depth; see
            :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.
        penalties: what else is charged, by name.
        marginal: the estimator of the inference marginal q(z); :class:`~pyro_hfvae.infer.estimators.Stratified`, the
            paper's, by default. A :class:`~pyro_hfvae.infer.memory.Memory` serves one instance.
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

    step: int
    """Training steps done, which schedules follow; whoever trains sets it (``pyro-hfvae fit`` does)."""

    def __init__(
        self,
        data_size: int,
        mutual_information: Weight | dict[str, Weight] | None = None,
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
        if data_size < 1:
            raise ValueError(f"data_size must be 1 or more, got {data_size}")
        if num_particles < 1:
            raise ValueError(f"num_particles must be 1 or more, got {num_particles}")
        if prior_samples < 1:
            raise ValueError(f"prior_samples must be 1 or more, got {prior_samples}")
        if guide_samples < 1:
            raise ValueError(f"guide_samples must be 1 or more, got {guide_samples}")
        self.data_size = data_size
        self.guide_samples = guide_samples
        self.prior_samples = prior_samples
        self.mutual_information = mutual_information
        self.between = between
        self.within = within
        self.dimension = dimension
        for name in _WEIGHTS:
            check_finite(name, getattr(self, name))
        self.blocks = blocks
        self.penalties = dict(penalties or {})
        self.marginal = Stratified() if marginal is None else marginal
        self.step = 0
        self._dependence: Dependence | None = None
        self._watch = Watch(data_size)

    def terms(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Terms:
        """The terms of one batch, in nats per datum, differentiable.

        Raises:
            ValueError, NotImplementedError: programs or a batch that the terms are not defined for; names the site.
            NonFiniteError: a term is NaN or infinite; names the site.
        """
        return self._terms_and_size(model, guide, args, kwargs)[0]

    def training_terms(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Terms:
        """The same, as a training step: an estimator with a memory takes the batch in, where gradients are enabled."""
        return self._terms_and_size(model, guide, args, kwargs, record=torch.is_grad_enabled())[0]

    def training_objective(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """:meth:`objective` of :meth:`training_terms`, for a step whose terms nobody looks at.

        Where all terms but the reconstruction have one weight, the inference marginal cancels, and is left out.
        """
        return self.objective(self._terms_and_size(model, guide, args, kwargs, torch.is_grad_enabled(), unseen=True)[0])

    @torch.no_grad()
    def aggregate_terms(self, model: Program, guide: Program, batches: Iterable[tuple[Any, ...]]) -> Terms:
        """The terms with the exact inference marginal of all the data in the batches, each datum taken once.

        The number of data seen stands in for ``data_size``, so that I(x; z) is bounded by its logarithm. Each datum is
        encoded once, whatever ``num_particles`` is.

        Args:
            model: the generative program.
            guide: the inference program.
            batches: arguments of model and guide, batch by batch.
        """
        parts = [self._drawn(model, guide, batch) for batch in batches]
        latents = concatenate([latents for latents, _, _, _ in parts])
        priors = concatenate_priors([priors for _, priors, _, _ in parts])
        log_likelihood = torch.cat([part for _, _, part, _ in parts], 1)
        structured = [part for _, _, _, part in parts if part is not None]
        return self._split(latents, priors, log_likelihood, log_likelihood.shape[1], Full(), None, structured)

    def objective(self, terms: Terms) -> Tensor:
        """The weighted ELBO that is maximised, a scalar in nats per datum."""
        return terms.reconstruction - sum(self.costs(terms).values())

    def costs(self, terms: Terms) -> dict[str, Tensor]:
        """What the objective takes off the reconstruction: each term with its weight at this step, scalars in nats."""

        def total(argument: str, given: Any, parts: Mapping[str, Tensor], levels: Mapping[str, int]) -> Tensor:
            weights = resolve_weights(argument, given, levels)
            return torch.stack([cost(weights[name], part, self.step) for name, part in parts.items()]).sum()

        blocks, level = terms.blocks, dict.fromkeys(terms.blocks, 0)
        groups = {JOINT: terms.between} | {name: group.between for name, group in terms.groups.items()}
        levels = {JOINT: 0} | {name: group.level for name, group in terms.groups.items()}
        return {
            "mutual_information": self._information_cost(terms),
            "between": total("between", self.between, groups, levels),
            "within": total("within", self.within, {name: block.within for name, block in blocks.items()}, level),
            "dimension": total(
                "dimension", self.dimension, {name: block.dimension for name, block in blocks.items()}, level
            ),
        } | {name: cost(self.penalties[name].weight, part, self.step) for name, part in terms.penalties.items()}

    def scheduled_weights(self) -> dict[str, float]:
        """The weights that follow a schedule, at this step, by name."""
        found = [scheduled(name, getattr(self, name), self.step) for name in _WEIGHTS]
        found += [scheduled(name, penalty.weight, self.step) for name, penalty in self.penalties.items()]
        return {name: value for part in found for name, value in part.items()}

    def _information_cost(self, terms: Terms) -> Tensor:
        given = self.mutual_information
        if given is None:
            mixed = len({block.discrete for block in terms.blocks.values()}) == 2
            given = {name: 0.0 if mixed and block.discrete else 1.0 for name, block in terms.blocks.items()}
        if not isinstance(given, Mapping):
            return cost(given, terms.mutual_information, self.step)
        weights = resolve_weights("mutual_information", given, dict.fromkeys(terms.blocks, 0))
        parts = [cost(weights[name], block.conditional_information, self.step) for name, block in terms.blocks.items()]
        return torch.stack(parts).sum()

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the weighted ELBO, summed over the batch and scaled as the programs' plates say."""
        terms, size = self._terms_and_size(model, guide, args, kwargs, torch.is_grad_enabled(), unseen=True)
        return -self.objective(terms) * size

    @torch.no_grad()
    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The value of :meth:`differentiable_loss`."""
        return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))  # type: ignore[no-any-return]

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The value of :meth:`differentiable_loss`, after a backward pass (``pyro.infer.SVI`` calls this).

        Penalties that learn take their step here, for no one else would.
        """
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        for penalty in self.penalties.values():
            if isinstance(penalty, LearnedPenalty):
                penalty.learn()
        return torch_item(loss)  # type: ignore[no-any-return]

    def _terms_and_size(
        self,
        model: Program,
        guide: Program,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        record: bool = False,
        unseen: bool = False,
    ) -> tuple[Terms, float | Tensor]:
        """The terms averaged over the particles, and B times the sites' scale.

        ``unseen`` terms are right in the objective, and may mean nothing by themselves.
        """
        terms = []
        due = self._watch.due()
        cancels = unseen and not due and self._marginal_cancels()
        keys = self.marginal.keys(args[0]) if args else None
        for run in self._runs(model, guide, args, kwargs):
            structured = [] if run.structured is None else [run.structured]
            split = self._split(
                run.latents, run.priors, run.log_likelihood, self.data_size, self.marginal, keys, structured, cancels
            )
            measured = {name: penalty(run, split) for name, penalty in self.penalties.items()}
            terms.append(replace(split, penalties=measured))
            refuse_non_finite(terms[-1].scalars(), run.model_trace, run.guide_trace)
            size = run.log_likelihood.shape[1] * run.scale
        if record and self.marginal.remembers:
            self.marginal.record(gather(run.latents)[0], self.data_size, keys)
        mean = mean_terms(terms)
        if due:
            self._watch.look(mean, self.marginal.reference_count(run.log_likelihood.shape[1], self.data_size))
        return mean, size

    def _runs(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Run]:
        if self._dependence is None:
            check_enumeration(model, guide, args, kwargs)
            self._dependence = read_dependence(model, guide, args, kwargs)
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            latents = read_posteriors(guide_trace)
            call, tree = Call(model, args, kwargs, model_trace), tree_of(latents, self.blocks)
            structured = None
            if self._dependence.structured_guide:
                if self.marginal.remembers:
                    raise NotImplementedError(NO_MEMORY)
                groups = [*groups_of_terms(latents, tree), *groups_of_priors(tree, self._dependence.model)]
                structured = read_structured_posterior(
                    Call(guide, args, kwargs, guide_trace, "guide"),
                    latents,
                    self._dependence.guide,
                    list(dict.fromkeys(groups)),
                    self.guide_samples,
                )
                latents = structured.latents
            yield Run(
                latents=latents,
                priors=read_priors(
                    call,
                    guide_trace,
                    latents,
                    tree,
                    self._dependence.model,
                    self.prior_samples,
                    None if structured is None else structured.masses,
                ),
                log_likelihood=expected_log_likelihood(model_trace, guide_trace, latents),
                scale=common_scale(model_trace, guide_trace),
                model_trace=model_trace,
                guide_trace=guide_trace,
                structured=structured,
            )

    def _drawn(
        self, model: Program, guide: Program, batch: tuple[Any, ...]
    ) -> tuple[Latents, Priors, Tensor, StructuredPosterior | None]:
        """What the terms need of one run; the traces, with their images, are let go where no guide is run again."""
        run = next(self._runs(model, guide, batch, {}))
        return run.latents, run.priors, run.log_likelihood, run.structured

    def _get_trace(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        given = with_every_combination(guide_trace)
        model_trace = poutine.trace(poutine.replay(model, trace=given)).get_trace(*args, **kwargs)
        return model_trace, guide_trace

    def _split(
        self,
        latents: Latents,
        priors: Priors,
        log_likelihood: Tensor,
        data_size: int,
        marginal: Marginal,
        keys: Tensor | None,
        structured: Sequence[StructuredPosterior],
        cancels: bool = False,
    ) -> Terms:
        tree = tree_of(latents, self.blocks)
        return split_elbo(
            latents, priors, log_likelihood, tree, data_size, marginal, keys, structured, self.guide_samples, cancels
        )

    def _marginal_cancels(self) -> bool:
        """Whether the terms enter the objective at this step as their sum only, which no log q̂ is left in."""
        weights = [getattr(self, name) for name in _WEIGHTS]
        if any(not isinstance(weight, float | int | Schedule) for weight in weights):
            return False
        own = type(self).objective is HierarchicalELBO.objective and type(self).costs is HierarchicalELBO.costs
        needed = any(penalty.needs_split for penalty in self.penalties.values())
        return own and not needed and len({value_at(weight, self.step) for weight in weights}) == 1
