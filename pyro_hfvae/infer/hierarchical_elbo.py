"""The evidence lower bound, split into its information-theoretic terms and reweighted (HFVAE)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.checks import refuse_dependent_sites, refuse_non_finite
from pyro_hfvae.infer.estimators import Full, Marginal, Stratified
from pyro_hfvae.infer.latents import (
    Latents,
    blocks_of,
    common_scale,
    concatenate,
    latent_shape,
    read_log_likelihood,
    read_log_priors,
    read_posteriors,
)
from pyro_hfvae.infer.split import gather, split_elbo
from pyro_hfvae.infer.terms import Terms, mean_terms
from pyro_hfvae.infer.trust import Watch

__all__ = ["HierarchicalELBO"]

Program = Callable[..., Any]


@dataclass(frozen=True)
class _Run:
    """One run of guide and model on a batch."""

    latents: Latents
    log_priors: Mapping[str, Tensor]  # each [S, B, V] or [S, B, V, K]
    log_likelihood: Tensor  # [S, B]
    scale: float | Tensor
    model_trace: Trace
    guide_trace: Trace


class HierarchicalELBO(ELBO):
    r"""An ELBO whose terms between and within blocks of latents are weighted each on its own.

    .. math::
        L = E[\log p(x|z)] - \alpha I(x; z) - \beta A - \gamma \sum_d i_d
            - \delta \sum_{d,e} KL(q(z_{d,e}) \| p(z_{d,e}))

    Esmaeili et al., Structured Disentangled Representations (AISTATS 2019), eq. 9. With every weight 1 this is the
    ordinary ELBO, to rounding; (1, b, b, 1) is beta-TCVAE, (b, b, b, b) beta-VAE. A discrete site enters by the mass
    of its categories, summed over exactly, never by the density of its relaxation; its relaxed sample goes to the
    decoder.

    It is a ``pyro.infer.ELBO``: hand it to ``pyro.infer.SVI`` as the loss, or call it on model and guide to get a
    ``torch.nn.Module`` whose output is the loss. As everywhere in Pyro the loss is a sum over the batch, with the
    scale that a subsampling plate gives it; the terms are means in nats per datum.

    Assumes that the latent sites of the guide are independent given the data and those of the model independent
    before it; this is checked on first use. One instance serves one pair of model and guide.

    Args:
        data_size: N, the number of data that batches are drawn from.
        mutual_information: weight alpha of I(x; z).
        between: weight beta of the total correlation between blocks.
        within: weight gamma of the total correlation of the variables within each block.
        dimension: weight delta of the divergence of each variable's marginal from its prior.
        blocks: block name to parts of sites, see :func:`pyro_hfvae.blocks.resolve_blocks`; each site by default.
        marginal: the estimator of the inference marginal q(z); :class:`~pyro_hfvae.infer.estimators.Stratified`, the
            paper's, by default. A :class:`~pyro_hfvae.infer.memory.Memory` serves one instance.
        num_particles: S, samples for each datum, averaged.
        vectorize_particles: draw the samples in one run, with S as leading dimension.
        max_plate_nesting: as in Pyro.

    Raises:
        ValueError: data_size or num_particles below 1, or a weight that is not finite.
    """

    def __init__(
        self,
        data_size: int,
        mutual_information: float = 1.0,
        between: float = 1.0,
        within: float = 1.0,
        dimension: float = 1.0,
        blocks: Layout | None = None,
        marginal: Marginal | None = None,
        num_particles: int = 1,
        vectorize_particles: bool = False,
        max_plate_nesting: float = float("inf"),
    ) -> None:
        super().__init__(
            num_particles=num_particles, vectorize_particles=vectorize_particles, max_plate_nesting=max_plate_nesting
        )
        if data_size < 1:
            raise ValueError(f"data_size must be 1 or more, got {data_size}")
        if num_particles < 1:
            raise ValueError(f"num_particles must be 1 or more, got {num_particles}")
        self.data_size = data_size
        self.mutual_information = mutual_information
        self.between = between
        self.within = within
        self.dimension = dimension
        for name in ("mutual_information", "between", "within", "dimension"):
            if not abs(getattr(self, name)) < float("inf"):
                raise ValueError(f"weight '{name}' must be a finite number, got {getattr(self, name)}")
        self.blocks = blocks
        self.marginal = Stratified() if marginal is None else marginal
        self._checked = False
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
        latents = concatenate([latents for latents, _, _ in parts])
        log_priors = {name: torch.cat([priors[name] for _, priors, _ in parts], 1) for name in latents}
        log_likelihood = torch.cat([part for _, _, part in parts], 1)
        return self._split(latents, log_priors, log_likelihood, log_likelihood.shape[1], Full(), None)

    def objective(self, terms: Terms) -> Tensor:
        """The weighted ELBO that is maximised, a scalar in nats per datum."""
        return (
            terms.reconstruction
            - self.mutual_information * terms.mutual_information
            - self.between * terms.between
            - self.within * terms.within
            - self.dimension * terms.dimension
        )

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the weighted ELBO, summed over the batch and scaled as the programs' plates say."""
        terms, size = self._terms_and_size(model, guide, args, kwargs, record=torch.is_grad_enabled())
        return -self.objective(terms) * size

    @torch.no_grad()
    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The value of :meth:`differentiable_loss`."""
        return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))  # type: ignore[no-any-return]

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The value of :meth:`differentiable_loss`, after a backward pass (``pyro.infer.SVI`` calls this)."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return torch_item(loss)  # type: ignore[no-any-return]

    def _terms_and_size(
        self,
        model: Program,
        guide: Program,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        record: bool = False,
    ) -> tuple[Terms, float | Tensor]:
        """The terms averaged over the particles, and B times the sites' scale."""
        terms = []
        keys = self.marginal.keys(args[0]) if args else None
        for run in self._runs(model, guide, args, kwargs):
            terms.append(
                self._split(run.latents, run.log_priors, run.log_likelihood, self.data_size, self.marginal, keys)
            )
            refuse_non_finite(terms[-1].scalars(), run.model_trace, run.guide_trace)
            size = run.log_likelihood.shape[1] * run.scale
        if record:
            self.marginal.record(gather(run.latents)[0], self.data_size, keys)
        mean = mean_terms(terms)
        if self._watch.due():
            self._watch.look(mean, self.marginal.reference_count(run.log_likelihood.shape[1], self.data_size))
        return mean, size

    def _runs(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[_Run]:
        if not self._checked:
            refuse_dependent_sites(model, guide, args, kwargs)
            self._checked = True
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            latents = read_posteriors(guide_trace)
            yield _Run(
                latents=latents,
                log_priors=read_log_priors(model_trace, guide_trace, latents),
                log_likelihood=read_log_likelihood(model_trace, latent_shape(latents)),
                scale=common_scale(model_trace, guide_trace),
                model_trace=model_trace,
                guide_trace=guide_trace,
            )

    def _drawn(
        self, model: Program, guide: Program, batch: tuple[Any, ...]
    ) -> tuple[Latents, Mapping[str, Tensor], Tensor]:
        """What the terms need of one run; the traces, with their images, are let go."""
        run = next(self._runs(model, guide, batch, {}))
        return run.latents, run.log_priors, run.log_likelihood

    def _get_trace(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return model_trace, guide_trace

    def _split(
        self,
        latents: Latents,
        log_priors: Mapping[str, Tensor],
        log_likelihood: Tensor,
        data_size: int,
        marginal: Marginal,
        keys: Tensor | None,
    ) -> Terms:
        blocks = blocks_of(latents, self.blocks)
        return split_elbo(latents, log_priors, log_likelihood, blocks, data_size, marginal, keys)
