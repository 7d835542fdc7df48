"""How often each check is not fine: for exact guides, for guides with known faults, and for wrong models.

Two models have exact posteriors: a linear Gaussian one of blocks a and b, two variables each, that are correlated given
x; and one with a block of three categories y, found by enumeration, and a Gaussian block z. Each repetition has data of
its own, drawn from the true model, and is judged as `pyro-hfvae check` does with its defaults where 500 data, or 50,
are held out; what a check does datum by datum is done for many repetitions in one run of the programs. Usage: python
benchmarks/check_rates.py [--repetitions R] [--exact R]; writes docs/checks_table.md.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_hfvae import __version__
from pyro_hfvae.files import write_atomically
from pyro_hfvae.posterior import (
    Calibration,
    Checks,
    GuideQuality,
    LeaveOneOut,
    PredictiveCheck,
    aggregate_against_prior,
    draw_guide,
    findings,
    guide_quality,
    leave_one_out,
    predictive_checks,
    simulation_based_calibration,
)
from pyro_hfvae.train.run_folder import processor

TABLE = Path(__file__).parents[1] / "docs" / "checks_table.md"
CHECKS = {
    "importance weights": "k̂",
    "gap of the ELBO": "gap",
    "calibration": "calibration",
    "q(z) against p(z)": "q(z)",
    "prior predictive": "prior pred.",
    "posterior predictive": "post. pred.",
    "LOO-PIT": "LOO-PIT",
}
CHUNK = 100  # repetitions in one run of the programs
NOISE = 0.5
# x of pairs (a0, b0) and (a1, b1): their sum, and weakly their difference, so that each pair is correlated given x.
LOADINGS = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.3, 0.0, -0.3, 0.0], [0.0, 0.3, 0.0, -0.3]])
# Three categories move x where z moves it too; the columns of z are orthogonal.
DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.5]])
CENTRES = torch.tensor([[1.2, 0.0, 0.0, 0.0], [0.0, 1.2, 0.0, 0.0], [-0.8, -0.8, 0.4, 0.4]])


@dataclass(frozen=True)
class Sizes:
    """Numbers of data and draws, by default those of ``pyro-hfvae check`` for a run with 500 held-out data."""

    data: int = 64
    simulations: int = 500
    aggregate: int = 500
    draws: int = 1000
    calibration_draws: int = 99
    predictive_draws: int = 100


@dataclass(frozen=True)
class Fault:
    """What is wrong with a guide: by default nothing."""

    scale: float = 1.0
    shift: float = 0.0  # in standard deviations of the posterior
    ignored: str = ""  # the block that is drawn from its prior
    factorised: str = ""  # "marginals": those of the posterior, by block; "optimum": the blocks of least KL(q || p)


@dataclass(frozen=True)
class Gaussian:
    """z = (a, b) ~ N(0, prior²), x ~ N(Wz, noise²)."""

    noise: float = NOISE
    prior: float = 1.0

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            blocks = [pyro.sample(name, dist.Normal(x.new_zeros(2), self.prior).to_event(1)) for name in "ab"]
            pyro.sample("x", dist.Normal(torch.cat(blocks, -1) @ LOADINGS.T, self.noise).to_event(1), obs=x)

    def data(self, size: int) -> Tensor:
        return self.prior * torch.randn(size, 4) @ LOADINGS.T + self.noise * torch.randn(size, 4)

    def guide(self, fault: Fault) -> Callable[[Tensor], None]:
        precision = torch.eye(4) / self.prior**2 + LOADINGS.T @ LOADINGS / self.noise**2
        covariance = precision.inverse()
        spread = covariance.diagonal().sqrt()
        slope = covariance[0, 2] / covariance[0, 0]  # of b_i on a_i: only pairs are correlated
        conditional = precision.diagonal() ** -0.5  # standard deviation given the other of a pair
        spread_b = conditional[2:]
        if fault.factorised or fault.ignored:
            slope, spread_b = torch.zeros(()), spread[2:]
        spread_a = spread[:2]
        if fault.factorised == "optimum":
            spread_a, spread_b = conditional[:2], conditional[2:]

        def guide(x: Tensor) -> None:
            exact = x @ LOADINGS @ covariance / self.noise**2
            mean = exact + fault.shift * spread
            with pyro.plate("data", len(x)):
                a = pyro.sample("a", dist.Normal(mean[:, :2], fault.scale * spread_a).to_event(1))
                if fault.ignored:
                    pyro.sample("b", dist.Normal(x.new_zeros(2), self.prior).to_event(1))
                else:
                    shifted = mean[:, 2:] + slope * (a - mean[:, :2])
                    pyro.sample("b", dist.Normal(shifted, fault.scale * spread_b).to_event(1))

        return guide


@dataclass(frozen=True)
class Mixture:
    """y one of three categories, z ~ N(0, prior²), x ~ N(c_y + Wz, noise²)."""

    noise: float = NOISE
    prior: float = 1.0

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(3)))
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), self.prior).to_event(1))
            pyro.sample("x", dist.Normal(y @ CENTRES + z @ DIRECTIONS.T, self.noise).to_event(1), obs=x)

    def data(self, size: int) -> Tensor:
        z = self.prior * torch.randn(size, 2)
        return CENTRES[torch.randint(3, (size,))] + z @ DIRECTIONS.T + self.noise * torch.randn(size, 4)

    def guide(self, fault: Fault) -> Callable[[Tensor], None]:
        variance = 1 / (1 / self.prior**2 + DIRECTIONS.square().sum(0) / self.noise**2)
        spread = variance.sqrt()
        covariance = self.prior**2 * DIRECTIONS @ DIRECTIONS.T + self.noise**2 * torch.eye(4)
        of_category = torch.distributions.MultivariateNormal(CENTRES, covariance)

        def guide(x: Tensor) -> None:
            logits = of_category.log_prob(x[:, None]).log_softmax(-1)  # [B, K]
            means = (x[:, None] - CENTRES) @ DIRECTIONS / self.noise**2 * variance + fault.shift * spread  # [B, K, 2]
            with pyro.plate("data", len(x)):
                if fault.ignored or fault.factorised:
                    kinds = dist.Categorical(logits=logits)
                    pyro.sample("z", dist.MixtureSameFamily(kinds, dist.Normal(means, spread).to_event(1)))
                    ignored = torch.zeros_like(logits)
                    pyro.sample("y", dist.OneHotCategorical(logits=ignored if fault.ignored else logits))
                else:
                    y = pyro.sample("y", dist.OneHotCategorical(logits=logits))
                    mean = (y[..., None] * means).sum(-2)
                    pyro.sample("z", dist.Normal(mean, fault.scale * spread).to_event(1))

        return guide


Truth = Gaussian | Mixture


def repetitions(truth: Truth, assumed: Truth, fault: Fault, sizes: Sizes, count: int) -> Iterator[Checks]:
    """The checks of ``count`` data sets of the truth, by a model that need not be it."""
    model, guide = assumed.model, assumed.guide(fault)
    x = truth.data(count * sizes.aggregate).unflatten(0, (count, sizes.aggregate))
    few = x[:, : sizes.data].flatten(0, 1)
    left_out = leave_one_out(model, guide, few, draws=sizes.draws)
    quality = guide_quality(model, guide, few, draws=sizes.draws)
    simulated = torch.zeros(count * sizes.simulations, 4)
    calibration = simulation_based_calibration(model, guide, simulated, draws=sizes.calibration_draws)
    predictive = predictive_checks(model, guide, few, draws=sizes.predictive_draws)
    for place in range(count):
        one = slice(place * sizes.data, (place + 1) * sizes.data)
        ranked = slice(place * sizes.simulations, (place + 1) * sizes.simulations)
        yield Checks(
            GuideQuality(
                quality.draws, quality.elbo[one], quality.counts, quality.bounds[:, one], quality.pareto_k[one]
            ),
            Calibration(calibration.draws, {name: ranks[ranked] for name, ranks in calibration.ranks.items()}),
            aggregate_against_prior(model, guide, [(x[place],)], seed=place),
            [
                PredictiveCheck(part.statistic, part.observed[one], part.prior[:, one], part.posterior[:, one])
                for part in predictive
            ],
            [
                LeaveOneOut(part.site, part.observed[one], part.predicted[:, one], part.log_weights[:, one])
                for part in left_out
            ],
            [],
        )


def divergence(assumed: Truth, fault: Fault, x: Tensor) -> float:
    """KL(q(z|x) || p(z|x)), mean over x in nats: the evidence, which is the exact guide's weight, less the ELBO."""
    evidence = draw_guide(assumed.model, assumed.guide(Fault()), x).log_weight
    weights = [draw_guide(assumed.model, assumed.guide(fault), x).log_weight for _ in range(200)]
    return float((evidence - torch.stack(weights).mean(0)).mean())


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    truth: Truth
    fault: Fault = Fault()
    assumed: Truth | None = None
    sizes: Sizes = Sizes()


SHIFTED = "shifted by .3 standard deviations"
FAULTS = {
    "exact": Fault(),
    "scale × .5": Fault(scale=0.5),
    "scale × 2": Fault(scale=2.0),
    SHIFTED: Fault(shift=0.3),
}
SMALL = Sizes(data=50, simulations=50, aggregate=50)
GAUSSIAN, MIXTURE = Gaussian(), Mixture()
WRONG_MODELS = {"noise × .5": {"noise": NOISE / 2}, "noise × 2": {"noise": NOISE * 2}, "prior × 2": {"prior": 2.0}}
PARTS: dict[str, list[Case]] = {
    "Guides of the linear Gaussian model": [
        *(Case(name, GAUSSIAN, fault) for name, fault in FAULTS.items()),
        Case("block b ignored", GAUSSIAN, Fault(ignored="b")),
        Case("correlation ignored: exact marginals", GAUSSIAN, Fault(factorised="marginals")),
        Case("correlation ignored: least KL", GAUSSIAN, Fault(factorised="optimum")),
    ],
    "Guides of the model with categories": [
        *(Case(name, MIXTURE, fault) for name, fault in FAULTS.items()),
        Case("block y ignored", MIXTURE, Fault(ignored="y")),
        Case("dependence ignored: exact marginals", MIXTURE, Fault(factorised="marginals")),
    ],
    "Exact guides of wrong models, linear Gaussian": [
        Case(name, GAUSSIAN, assumed=replace(GAUSSIAN, **changed)) for name, changed in WRONG_MODELS.items()
    ],
    "Guides of the linear Gaussian model, 50 held-out data": [
        Case(name, GAUSSIAN, FAULTS[name], sizes=SMALL) for name in ("exact", "scale × .5", SHIFTED)
    ],
}


def measure(case: Case, count: int, seed: int) -> str:
    """A line of the table: per cent of the repetitions in which each check is not fine."""
    torch.manual_seed(seed)
    assumed = case.assumed or case.truth
    nats = divergence(assumed, case.fault, case.truth.data(2000))
    wrong = dict.fromkeys(CHECKS, 0)
    alarms = 0
    for start in range(0, count, CHUNK):
        for checks in repetitions(case.truth, assumed, case.fault, case.sizes, min(CHUNK, count - start)):
            found = {finding.subject: not finding.fine for finding in findings(checks)}
            for subject in CHECKS:
                wrong[subject] += found.get(subject, False)
            alarms += any(found.values())
    cells = [rate(number, count) for number in (*wrong.values(), alarms)]
    return f"| {case.name} | {abs(nats):.2f} | {count} | {' | '.join(cells)} |"


def rate(number: int, count: int) -> str:
    """Per cent, and the binomial standard error of those between 0 and 100."""
    share = number / count
    error = 100 * (share * (1 - share) / count) ** 0.5
    return f"{100 * share:.3g} ± {error:.1g}" if 0 < number < count else f"{100 * share:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--exact", type=int, default=100, help="repetitions of an exact guide")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    started = time.process_time()
    heads = ["", "KL, nats", "runs", *CHECKS.values(), "any"]
    lines = []
    for part, cases in PARTS.items():
        lines += [f"**{part}**", "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
        for seed, case in enumerate(cases):
            lines.append(measure(case, options.exact if case.name == "exact" else options.repetitions, seed))
            print(f"{lines[-1]} {time.process_time() - started:.0f} s", flush=True)
        lines.append("")
        about = (
            f"Seeds 0, 1, … in each part; pyro-hfvae {__version__}, torch {torch.__version__}, Python "
            f"{platform.python_version()}; one thread of an {processor()}; {time.process_time() - started:.0f} s of "
            "processor time."
        )
        write_atomically(TABLE, "\n".join([*lines, about]) + "\n")


if __name__ == "__main__":
    main()
