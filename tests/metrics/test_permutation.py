import numpy as np
import pytest
from metric_tables import gaussian_codes, mixed
from scipy.stats import t

from pyro_hfvae.metrics import Factors, mig, permutation_chance, sap


def scores(codes, factors):
    return {"mig": mig(codes, factors).mig, "sap": sap(codes, factors).sap}


def test_by_hand():
    codes, factors = mixed(100)
    rng = np.random.default_rng(4)
    values = [mig(codes.rows(rng.permutation(100)), factors).mig for _ in range(6)]
    reach = t.ppf(0.975, 5) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 6)
    chance = permutation_chance(scores, codes, factors, permutations=6, seed=4)["mig"]
    assert chance.mean == pytest.approx(np.mean(values))
    assert chance.low == pytest.approx(np.mean(values) - reach)
    assert chance.high == pytest.approx(np.mean(values) + reach)
    assert chance.permutations == 6


def test_interval_holds_95_percent_of_scores_of_noise():
    """200 tables of noise, each with an interval of its own: the share inside has a standard error of .015."""
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        factors = Factors(rng.integers(0, 3, (40, 1)), ("x",), ("ordinal",))
        codes = gaussian_codes(rng.normal(size=(40, 1)))

        def mean_product(codes, factors):
            return {"r": float(np.corrcoef(codes.columns[:, 0], factors.values[:, 0])[0, 1])}

        chance = permutation_chance(mean_product, codes, factors, permutations=5, seed=seed)["r"]
        inside.append(chance.low <= mean_product(codes, factors)["r"] <= chance.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.045)


def test_codes_that_tell_are_above():
    codes, factors = mixed(300)
    chances = permutation_chance(scores, codes, factors, permutations=4)
    for name, value in scores(codes, factors).items():
        assert value > chances[name].high


def test_one_permutation_has_no_interval():
    with pytest.raises(ValueError, match="permutations must be at least 2, for an interval; got 1"):
        permutation_chance(scores, *mixed(50), permutations=1)
