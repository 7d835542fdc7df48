"""What the checks found, in plain words: what is fine, what is not, what to try."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from pyro_hfvae.posterior.calibration import LOG_LIKELIHOOD
from pyro_hfvae.posterior.checks import Checks
from pyro_hfvae.posterior.uniformity import uniformity_p_value

__all__ = ["LEVEL", "Finding", "findings", "summary"]

LEVEL = 0.01
"""Each check by p-values raises a false alarm with at most this probability; Bonferroni within a check."""

LARGEST_K = 0.7
LARGEST_K_SHARE = 0.05
LARGEST_GAP = 0.5  # nats
LARGEST_SHIFT = 0.5  # standard deviations
LARGEST_RATIO = 1.5
LARGEST_R_HAT = 1.05


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    subject: str
    fine: bool
    said: str
    """What was measured."""
    advice: str
    """What to try where it is not fine."""


def findings(checks: Checks) -> list[Finding]:
    """Judges every check; the limits are the constants of this module, named in ``docs/checks.md``."""
    return [*_guide(checks), _calibration(checks), *_aggregate(checks), *_predictive(checks), *_nuts(checks)]


def summary(found: Sequence[Finding]) -> str:
    """The findings as text: what is fine, what is not, and for that what to try."""
    wrong = [finding for finding in found if not finding.fine]
    lines = [f"{len(found) - len(wrong)} of {len(found)} checks are fine"]
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        lines.append(f"{'fine' if finding.fine else 'NOT FINE':<8}  {finding.subject:<{width}}  {finding.said}")
    if wrong:
        lines += ["", "what to try:"]
        lines += [f"- {finding.subject}: {finding.advice}" for finding in wrong]
    return "\n".join(lines) + "\n"


def _guide(checks: Checks) -> Iterator[Finding]:
    quality = checks.quality
    given = quality.pareto_k[~np.isnan(quality.pareto_k)]
    high = given > LARGEST_K
    # k̂ is noisy: of a guide whose k is .5, 5 % of the data exceed .7 by chance (1,000 draws; docs/checks.md).
    uncovered = len(given) > 0 and binomtest(int(high.sum()), len(given), LARGEST_K_SHARE, "greater").pvalue < LEVEL
    if len(given):
        missing = len(quality.pareto_k) - len(given)
        yield Finding(
            "importance weights",
            not uncovered,
            f"PSIS k̂ is above {LARGEST_K} for {high.mean():.0%} of {len(given):,} data "
            f"(median {np.median(given):z.2f}, {quality.draws:,} draws)"
            + (f"; none for {missing:,} whose weights tie, as those of discrete latents do" if missing else ""),
            "the guide misses mass of the posterior: it is too narrow or in the wrong place. Give it more capacity or "
            "a richer family, train it longer with the model fixed, or take a larger temperature for Concrete sites; "
            "weights of terms other than 1 also lead it away from the posterior",
        )
    gap, bound = float(quality.gap.mean()), float(quality.bounds[-1].mean())
    yield Finding(
        "gap of the ELBO",
        gap <= LARGEST_GAP,
        f"ELBO {quality.elbo.mean():.2f}, bound on log p(x) by {quality.draws:,} draws {bound:.2f}: "
        f"the guide costs {gap:z.2f} nats per datum" + (" or more" if uncovered else ""),
        "compare models by the bound and not by the ELBO; as for the importance weights",
    )


def _calibration(checks: Checks) -> Finding:
    p_values = checks.calibration.p_values()
    wrong = _rejected(p_values)
    count = len(next(iter(checks.calibration.ranks.values())))
    if wrong == [LOG_LIKELIHOOD]:
        advice = (
            "only the log-likelihood is off: the guide makes too little of the data, as one that ignores some of them "
            "does; look whether a block has collapsed to its prior"
        )
    else:
        advice = (
            "ranks that pile up at both ends mean a guide that is too narrow, in the middle one that is too wide, at "
            "one end one that is shifted (see calibration.png). Data drawn from the model may also be unlike those "
            "that the guide was trained on: then look at the prior predictive check first"
        )
    return Finding("calibration", not wrong, _counted(wrong, p_values, f"ranks of {count:,} simulated data"), advice)


def _aggregate(checks: Checks) -> Iterator[Finding]:
    if not checks.aggregate:
        return
    wrong = _rejected({block: outcome.p_value for block, outcome in checks.aggregate.items()})
    accuracies = ", ".join(f"{block} {outcome.accuracy:.0%}" for block, outcome in checks.aggregate.items())
    where = f"; differs: {', '.join(wrong)}" if wrong else ""
    yield Finding(
        "q(z) against p(z)",
        not wrong,
        f"a classifier separates them with accuracy {accuracies} (chance 50%){where}",
        "draws of the prior do not look like what the guide infers, and what is decoded from them will be worse than "
        "reconstructions. Raise the weights of the terms against the prior ('between', 'within', 'dimension'), or give "
        "the model a prior that can be learned; if only all blocks together differ, the blocks depend on one another",
    )


def _predictive(checks: Checks) -> Iterator[Finding]:
    prior = {check.statistic: check.prior_p_value for check in checks.predictive}
    wrong = _rejected(prior)
    distances = {check.statistic: check.distance for check in checks.predictive}
    yield Finding(
        "prior predictive",
        not wrong,
        _counted(wrong, prior, "statistics of data and draws of the model", distances),
        "the model as a whole does not make data like the data: look at q(z) against p(z) first, then at the decoder "
        "and the likelihood",
    )
    posterior = {check.statistic: check.posterior_p_value for check in checks.predictive}
    wrong = _rejected(posterior)
    shares = {check.statistic: check.tail_share for check in checks.predictive}
    yield Finding(
        "posterior predictive",
        not wrong,
        _counted(wrong, posterior, "statistics of data and their reconstructions drawn", shares, share="in the tails"),
        "given its own posterior the model misses this side of a datum: the decoder or the likelihood cannot express "
        "it, or the guide points elsewhere",
    )
    if checks.leave_one_out:
        p_values = {part.site: uniformity_p_value(part.pit()) for part in checks.leave_one_out}
        wrong = _rejected(p_values)
        yield Finding(
            "LOO-PIT",
            not wrong,
            _counted(wrong, p_values, "one number of each datum predicted from the others"),
            "the spread or the shape of the likelihood is wrong (see loo_pit.png); if k̂ is high, mend the guide first",
        )


def _nuts(checks: Checks) -> Iterator[Finding]:
    for place, sites in enumerate(checks.nuts):
        met = all(part.r_hat <= LARGEST_R_HAT for part in sites.values())
        wrong = [
            site
            for site, part in sites.items()
            if np.abs(part.shift).max() > LARGEST_SHIFT
            or np.abs(np.log(np.maximum(part.scale_ratio, 1e-12))).max() > np.log(LARGEST_RATIO)
        ]
        parts = "; ".join(
            f"{site}: shifted by up to {np.abs(part.shift).max():.2f} standard deviations, scale "
            f"{part.scale_ratio.min():.2f} to {part.scale_ratio.max():.2f} times NUTS's, r̂ {part.r_hat:.2f}, "
            f"ESS {part.effective_draws:.0f}"
            for site, part in sites.items()
        )
        yield Finding(
            f"NUTS, datum {place}",
            met and not wrong,
            parts if met else f"the chains have not met ({parts})",
            f"guide and chains differ in {', '.join(wrong)}: as for the importance weights"
            if met
            else "no verdict on the guide: run longer chains, or look whether the posterior has several modes",
        )


def _rejected(p_values: Mapping[str, float]) -> list[str]:
    return [name for name, p_value in p_values.items() if p_value * len(p_values) < LEVEL]


def _counted(
    wrong: Sequence[str],
    p_values: Mapping[str, float],
    what: str,
    sizes: Mapping[str, float] | None = None,
    share: str = "apart",
) -> str:
    """Smallest p-value or what was rejected, a few names at most."""
    if not wrong:
        return f"{what}: nothing off, smallest of {len(p_values)} p-values {min(p_values.values()):.2g}"
    shown = sorted(wrong, key=p_values.__getitem__)[:4]
    named = [f"{name} ({sizes[name]:.0%} {share})" if sizes else name for name in shown]
    more = f" and {len(wrong) - len(shown)} more" if len(wrong) > len(shown) else ""
    return f"{what}: {len(wrong)} of {len(p_values)} off: {', '.join(named)}{more}"
