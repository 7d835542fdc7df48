"""A model and a guide under an objective, with all state that training them has."""

import copy
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from pyro.infer.elbo import ELBO, ELBOModule
from pyro.poutine import Trace
from torch import Tensor, nn

from pyro_hfvae.batch import AnyBatch, as_arguments
from pyro_hfvae.blocks import Node, resolve_blocks
from pyro_hfvae.infer.bounds import dependent_in_prior, log_normalisers
from pyro_hfvae.infer.dependence import Dependence, read_dependence
from pyro_hfvae.infer.diagnostics import INTERVAL, EstimateMonitor, EstimateWarning
from pyro_hfvae.infer.enumeration import check_enumeration, with_every_combination
from pyro_hfvae.infer.finite import NonFiniteError, refuse_non_finite
from pyro_hfvae.infer.notes import has_partners
from pyro_hfvae.infer.penalties.learned import LearnedPenalty
from pyro_hfvae.infer.programs import Program
from pyro_hfvae.infer.references import References
from pyro_hfvae.infer.sample import Sample, read_sample
from pyro_hfvae.infer.split import groups_of_terms, split_elbo
from pyro_hfvae.infer.tables import Samples, Tables, read_tables
from pyro_hfvae.infer.terms import Terms, mean_terms
from pyro_hfvae.infer.traces import DataPlate, latent_sites

if TYPE_CHECKING:
    from pyro_hfvae.infer.elbo import HierarchicalELBO

__all__ = ["HierarchicalModule", "Loss"]


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, and its terms."""

    per_datum: Tensor
    """Minus the weighted ELBO, a mean over the batch, in nats per datum."""
    size: float | Tensor
    """B times the scale of the programs' plates."""
    terms: Terms | None
    """None if they were not asked for."""


class HierarchicalModule(ELBOModule):
    """A model and a guide under a :class:`~pyro_hfvae.infer.HierarchicalELBO`: a module whose output is the loss.

    It owns what depends on what in the programs, the estimator with its memory, the penalties with their networks and
    optimisers, and the number of training steps; all but the first is in its ``state_dict``. In a loop of your own:

        loss = module(x); loss.backward(); optimizer.step(); module.step()

    Training mode and enabled gradients make a call of the module a training step, whose posteriors an estimator with a
    memory takes in at the next :meth:`step`; :meth:`terms` and :meth:`costs` change nothing.

    Args:
        model: the generative program.
        guide: the inference program.
        elbo: the settings.
    """

    elbo: "HierarchicalELBO"

    def __init__(self, model: Program, guide: Program, elbo: "HierarchicalELBO") -> None:
        super().__init__(model, guide, elbo)  # type: ignore[arg-type]
        self.marginal = copy.deepcopy(elbo.marginal)
        self.penalties = nn.ModuleDict({_key(name): copy.deepcopy(p) for name, p in elbo.penalties.items()})
        self.steps = 0
        self._dependence: Dependence | None = None
        self._latents: tuple[frozenset[str], frozenset[str]] | None = None
        self._pending: list[Sample] = []
        self._trees: dict[tuple[Any, ...], Node] = {}
        self._particles = _Particles(num_particles=elbo.num_particles, vectorize_particles=elbo.vectorize_particles)
        self._particles.max_plate_nesting = elbo.max_plate_nesting  # which has the dimension of the particles in it
        self._monitor = EstimateMonitor(elbo.data_size)
        self._warned = False

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the weighted ELBO, summed over the batch and scaled as by the programs' plates."""
        loss = self.loss(*args, **kwargs)
        return loss.per_datum * loss.size

    def loss(self, *args: Any, with_terms: bool = False, **kwargs: Any) -> Loss:
        """The loss of a batch, with its terms if they are asked for; these do not change how its gradient is made.

        Raises:
            ValueError, NotImplementedError: programs or a batch that the terms are not defined for; names the site.
            NonFiniteError: a term is NaN or infinite; names the site.
        """
        trains = self.training and torch.is_grad_enabled()
        checks = trains and (self.steps + 1) % INTERVAL == 0
        samples = list(self._samples(args, kwargs))
        if trains:
            self._refuse_lack_of_partners(samples[-1])
        cancels = self.elbo.marginal_cancels(self.steps)
        terms = self._mean_terms(samples, aggregates=not cancels)
        per_datum = -self.elbo.objective_at(terms, self.steps)
        if cancels and (with_terms or checks):
            devices = [terms.reconstruction.device] if terms.reconstruction.device.type == "cuda" else []
            with torch.no_grad(), torch.random.fork_rng(devices):
                terms = self._mean_terms(samples)
        if trains:
            self._pending.append(samples[-1])
            del self._pending[:-_MOST_PENDING]
        sample = samples[-1]
        if checks:
            self._monitor.check(terms, self.marginal.reference_count(sample.shape[1], self.elbo.data_size))
        return Loss(per_datum, sample.shape[1] * sample.scale, terms if with_terms else None)

    def terms(self, *args: Any, **kwargs: Any) -> Terms:
        """The terms of one batch, in nats per datum, differentiable.

        Raises:
            ValueError, NotImplementedError: programs or a batch that the terms are not defined for; names the site.
            NonFiniteError: a term is NaN or infinite; names the site.
        """
        return self._mean_terms(list(self._samples(args, kwargs)))

    @torch.no_grad()
    def aggregate_terms(self, batches: Iterable[AnyBatch]) -> Terms:
        """The terms with the exact inference marginal of all the data in the batches, each datum taken once.

        The number of data seen stands in for ``data_size``, so that I(x; z) is bounded by its logarithm. Each datum is
        encoded once, whatever ``num_particles`` is.

        Args:
            batches: arguments of model and guide, batch by batch: tuples, or named tensors.
        """
        samples = []
        for batch in batches:
            sample = next(self._samples(*as_arguments(batch)))
            samples.append(sample.without_traces())
        if not samples:
            raise ValueError("there are no batches to take the terms of")
        tree, size = self._tree(samples[0]), sum(sample.shape[1] for sample in samples)
        log_n = math.log(size)
        first, tables = 0, []
        for sample in samples:
            references = References(own=-log_n, other=-log_n, first=first)
            tables.append(self._tables(sample, samples, tree, references))
            first += sample.shape[1]
        weights = [sample.shape[1] / size for sample in samples]
        log_likelihood = torch.cat([sample.log_likelihood for sample in samples], 1)
        merged = replace(samples[0], log_likelihood=log_likelihood, **_mean_globals(samples, weights))
        normalisers = [self._normalisers(sample, tree) for sample in samples]
        log_z = {name: sum(w * z[name] for w, z in zip(weights, normalisers, strict=True)) for name in normalisers[0]}
        terms = split_elbo(merged, tree, Tables.mean(tables, weights), size, log_z)  # type: ignore[arg-type]
        return self._with_penalties(samples, terms)

    def costs(self, terms: Terms) -> dict[str, Tensor]:
        """What the objective takes off the reconstruction at the present step, scalars in nats per datum."""
        return self.elbo.costs_at(terms, self.steps)

    def objective(self, terms: Terms) -> Tensor:
        """The weighted ELBO at the present step, a scalar in nats per datum."""
        return self.elbo.objective_at(terms, self.steps)

    @torch.no_grad()
    def tree(self, *args: Any, **kwargs: Any) -> Node:
        """The groups, blocks and variables of the latents, read off a run on a batch."""
        with torch.random.fork_rng():
            return self._tree(next(self._samples(args, kwargs)))

    def step(self) -> dict[str, Tensor]:
        """Ends a training step: schedules move, an estimator remembers the batch, networks of penalties learn.

        Returns:
            The loss of each network that learned, by the name of its penalty.
        """
        losses = {}
        for name, penalty in self.penalties.items():
            if isinstance(penalty, LearnedPenalty) and self._pending:
                with torch.enable_grad():
                    losses[name] = penalty.learn(self._pending[-1])
                if not losses[name].isfinite():
                    raise NonFiniteError(
                        f"the loss of the network of penalty '{name}' is not finite at step {self.steps}"
                    )
        for sample in self._pending:
            self.marginal.record(sample, self.elbo.data_size)
        self._pending.clear()
        self.steps += 1
        return losses

    def program_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of model and guide, which one optimiser trains; networks of penalties have their own."""
        seen: set[int] = set()
        for program in (self.model, self.guide):
            for parameter in program.parameters() if isinstance(program, nn.Module) else ():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def get_extra_state(self) -> Tensor:
        """The number of training steps."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes up the number of training steps."""
        self.steps = int(state)

    def _samples(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Sample]:
        if self._dependence is None:
            self._read(args, kwargs)
        assert self._dependence is not None
        self._particles.plate = self._dependence.plate
        for model_trace, guide_trace in self._particles._get_traces(self.model, self.guide, args, kwargs):
            found = frozenset(latent_sites(guide_trace)), frozenset(latent_sites(model_trace))
            if found != self._latents:  # the programs sample other sites than before
                self._read(args, kwargs)
            yield read_sample(self.model, self.guide, args, kwargs, model_trace, guide_trace, self._dependence)

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check_enumeration(self.model, self.guide, args, kwargs)
        self._dependence, guide_trace, model_trace = read_dependence(self.model, self.guide, args, kwargs)
        self._latents = frozenset(latent_sites(guide_trace)), frozenset(latent_sites(model_trace))

    def _tree(self, sample: Sample) -> Node:
        shapes = sample.variable_shapes
        key = tuple(shapes.items())
        if key not in self._trees:
            self._trees[key] = resolve_blocks(self.elbo.blocks, shapes)
        return self._trees[key]

    def _mean_terms(self, samples: Sequence[Sample], aggregates: bool = True) -> Terms:
        """The terms, averaged over particles that were run one after the other."""
        return mean_terms([self._terms(sample, aggregates) for sample in samples])

    def _terms(self, sample: Sample, aggregates: bool) -> Terms:
        tree = self._tree(sample)
        references = self.marginal.references(sample, self.elbo.data_size)  # or its refusal, wanted or not
        tables = self._tables(sample, [sample], tree, references if aggregates else None)
        terms = split_elbo(sample, tree, tables, self.elbo.data_size, self._normalisers(sample, tree))
        terms = self._with_penalties([sample], terms)
        refuse_non_finite(terms.scalars(), sample.model.trace, sample.guide.trace)
        return terms

    def _tables(self, sample: Sample, every: Sequence[Sample], tree: Node, references: References | None) -> Tables:
        return read_tables(sample, every, groups_of_terms(sample, tree), references, self._ancestors)

    @property
    def _ancestors(self) -> Samples:
        return Samples(self.elbo.prior_samples, self.elbo.guide_samples)

    def _normalisers(self, sample: Sample, tree: Node) -> dict[str, Tensor]:
        """log Z by group and block, where the weights ask for it."""
        if self.elbo.equal_weights(self.steps):
            return {}
        if not sample.dependence.conditional:
            return log_normalisers(sample, tree, self._ancestors)
        groups = [[frozenset(child.variables) for child in node.children] for node in tree.groups()]
        groups += [[frozenset({v}) for v in variables] for variables in tree.blocks.values()]
        if not self._warned and any(dependent_in_prior(sample, some) for some in groups):
            self._warned = True
            warnings.warn(
                "the prior is conditional on covariates and its variables depend on one another: with unequal weights "
                "of 'between', 'within' and 'dimension' the objective has no bound unless between <= within <= "
                "dimension",
                EstimateWarning,
                stacklevel=2,
            )
        return {}

    def _refuse_lack_of_partners(self, sample: Sample) -> None:
        """Refuses to train on data without partners where a penalty compares them: it would measure nothing."""
        for name in self.elbo.penalties:
            if self.penalties[_key(name)].needs_partners and not has_partners(sample.guide.trace):
                raise ValueError(
                    f"penalty '{name}' compares the posteriors of partners, but the data have none: call the objective "
                    "inside pyro_hfvae.poutine.agree, which names them"
                )

    def _with_penalties(self, samples: Sequence[Sample], terms: Terms) -> Terms:
        measured = {name: self.penalties[_key(name)](samples, terms) for name in self.elbo.penalties}
        return replace(terms, penalties=measured)


_MOST_PENDING = 64
"""Batches that wait for a step: those whose gradients are accumulated for one."""


class _Particles(ELBO):
    """Pyro's loops over particles, with the model run on every combination of categories that the guide leaves."""

    plate: DataPlate

    def _get_trace(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        given = with_every_combination(guide_trace, self.plate)
        return poutine.trace(poutine.replay(model, trace=given)).get_trace(*args, **kwargs), guide_trace


def _mean_globals(samples: Sequence[Sample], weights: Sequence[float]) -> dict[str, Any]:
    """What is there once for the data set, as the mean over batches."""
    pairs = list(zip(weights, samples, strict=True))
    globals_ = {name: sum(w * sample.globals[name] for w, sample in pairs) for name in samples[0].globals}
    return {"globals": globals_, "observed_once": sum(w * sample.observed_once for w, sample in pairs)}


def _key(name: str) -> str:
    """A name that modules can have."""
    return name.replace(".", "_")
