"""The summary: an exact guide is fine, broken ones are caught by the checks that should catch them."""

import linear_gaussian as lg
import numpy as np
import pytest
import torch

from pyro_hfvae.posterior import Agreement, Checks, GuideQuality, check_figures, findings, run_checks, summary

ALL = ["importance weights", "gap of the ELBO", "calibration", "q(z) against p(z)", "prior predictive",
       "posterior predictive", "LOO-PIT"]  # fmt: skip


def checked(guide, seed=0, data=None):
    torch.manual_seed(seed)
    x = lg.data(1200, seed) if data is None else data
    return run_checks(
        lg.model, guide, (x[:64],), (x[:200],), [(x,)], draws=200, calibration_draws=49, predictive_draws=39, seed=seed
    )


def wrong(checks):
    return {finding.subject for finding in findings(checks) if not finding.fine}


@pytest.fixture(scope="module")
def exact():
    return checked(lg.Guide())


def test_exact_guide_is_fine(exact):
    assert [finding.subject for finding in findings(exact)] == ALL
    assert wrong(exact) == set()
    assert summary(findings(exact)).startswith("7 of 7 checks are fine\nfine ")
    assert "what to try" not in summary(findings(exact))


@pytest.mark.parametrize(
    ("guide", "caught", "passed"),
    [
        (
            lg.Guide(scale=0.3),
            {"importance weights", "gap of the ELBO", "calibration", "q(z) against p(z)"},
            {"prior predictive"},
        ),
        (lg.Guide(ignored="a"), {"gap of the ELBO", "calibration"}, {"q(z) against p(z)", "prior predictive"}),
        (
            lg.Guide(shift=1.0),
            {"importance weights", "gap of the ELBO", "calibration", "q(z) against p(z)"},
            {"prior predictive"},
        ),
    ],
    ids=["scale", "ignored", "shift"],
)
def test_broken_guides_are_caught(guide, caught, passed):
    checks = checked(guide)
    assert caught <= wrong(checks)
    assert not passed & wrong(checks)
    text = summary(findings(checks))
    for subject in caught:
        assert f"- {subject}: " in text.partition("what to try:")[2]
    if guide.ignored:
        assert "1 of 4 off: log-likelihood" in text
        assert "look whether a block has collapsed to its prior" in text


def test_wrong_model_is_caught():
    found = wrong(checked(lg.Guide(), data=2.5 * lg.data(1200)))
    assert {"prior predictive", "LOO-PIT", "q(z) against p(z)"} <= found
    assert not {"importance weights", "calibration"} & found  # inference is exact all the same


def test_no_verdict_on_weights_without_k(exact):
    def found(pareto_k):
        quality = GuideQuality(**(vars(exact.quality) | {"pareto_k": np.array(pareto_k)}))
        checks = Checks(**(vars(exact) | {"quality": quality}))
        assert check_figures(checks)["guide"].axes[0].get_xlabel() == "datum"
        return findings(checks)

    assert [finding.subject for finding in found([np.nan] * 3)] == ALL[1:]
    mixed = found([np.nan, np.nan, 0.9, 0.9, 0.9])[0]
    assert not mixed.fine
    assert "for 100% of 3 data" in mixed.said
    assert mixed.said.endswith("; none for 2 whose weights tie, as those of discrete latents do")


@pytest.mark.parametrize(("size", "high", "fine"), [(64, 8, True), (64, 9, False), (16, 3, True), (16, 4, False)])
def test_some_data_may_have_a_high_k_by_chance(exact, size, high, fine):
    """At most 1 % of binomial numbers with a share of 5 % are as large as the first that is not fine."""
    quality = GuideQuality(**(vars(exact.quality) | {"pareto_k": np.repeat([0.8, 0.2], [high, size - high])}))
    found = findings(Checks(**(vars(exact) | {"quality": quality})))
    assert found[0].fine == fine
    assert found[1].said.endswith("or more") != fine


def test_words_of_nuts(exact):
    def found(**changed):
        values = {"shift": np.array([0.1]), "scale_ratio": np.array([1.0]), "r_hat": 1.0, "effective_draws": 99.0}
        agreement = Agreement(**(values | changed))
        return findings(Checks(**(vars(exact) | {"nuts": [{"z": agreement}]})))[-1]

    assert found().fine
    assert found().said == (
        "z: shifted by up to 0.10 standard deviations, scale 1.00 to 1.00 times NUTS's, r̂ 1.00, ESS 99"
    )
    assert found(shift=np.array([-0.6])).advice == "guide and chains differ in z: as for the importance weights"
    assert not found(scale_ratio=np.array([0.5])).fine
    assert not found(r_hat=1.2).fine
    assert found(r_hat=1.2).said.startswith("the chains have not met")


def test_figures_are_labelled(exact):
    figures = check_figures(exact)
    assert figures.keys() == {"guide", "calibration", "aggregate", "predictive", "loo_pit"}
    for figure in figures.values():
        for axes in figure.axes:
            assert axes.get_xlabel() or figure.get_supxlabel()
            assert axes.get_ylabel() or figure.get_supylabel() or axes.get_yticklabels()
    assert [axes.get_title() for axes in figures["predictive"].axes[::2]] == [
        "mean", "standard deviation", "smallest", "largest"
    ]  # fmt: skip
    assert {axes.get_title() for axes in figures["calibration"].axes} == {"a[0]", "a[1]", "b", "log-likelihood"}


@pytest.mark.slow
def test_false_alarms_of_an_exact_guide():
    """Five checks by p-values of at most 1 % each and two that cannot fail: at most 5 % of runs."""
    alarms = [bool(wrong(checked(lg.Guide(), seed))) for seed in range(1, 41)]
    assert sum(alarms) <= 6  # 2 expected at most; 7 or more has a probability below .01
