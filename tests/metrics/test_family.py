"""What holds for every score that needs factors: range, chance, dead variables, order of the variables."""

import numpy as np
import pytest
from metric_tables import gaussian_codes, mixed, with_dead

from pyro_hfvae.metrics import (
    Codes,
    Factors,
    beta_vae_score,
    dci,
    dci_es,
    explicitness,
    factor_vae_score,
    infomec,
    irs,
    mig,
    mig_sup,
    modularity,
    sap,
)

SCORES = {
    "dci lasso D": lambda *given: dci(*given, reader="lasso").disentanglement,
    "dci lasso I": lambda *given: dci(*given, reader="lasso").informativeness,
    "dci linear D": lambda *given: dci(*given, reader="linear").disentanglement,
    "dci linear blocks": lambda *given: dci(*given, reader="linear").disentanglement_of_blocks,
    "mig": lambda *given: mig(*given).mig,
    "mig_sup": lambda *given: mig_sup(*given).mig_sup,
    "sap": lambda *given: sap(*given).sap,
    "modularity": lambda *given: modularity(*given).modularity,
    "explicitness": lambda *given: explicitness(*given).explicitness,
    "beta_vae": lambda *given: beta_vae_score(*given).score,
    "factor_vae": lambda *given: factor_vae_score(*given).score,
    "irs": lambda *given: irs(*given).irs,
    "infomec M": lambda *given: infomec(*given).modularity,
    "infomec C": lambda *given: infomec(*given).compactness,
    "infomec E": lambda *given: infomec(*given).explicitness,
    "dci_es E": lambda *given: dci_es(*given).explicitness,
}


@pytest.fixture(scope="module")
def known():
    codes, factors = mixed()
    return codes, factors, {name: score(codes, factors) for name, score in SCORES.items()}


@pytest.mark.parametrize("name", SCORES)
def test_in_range_and_above_chance(known, name):
    codes, factors, values = known
    permuted = SCORES[name](codes.rows(np.random.default_rng(1).permutation(600)), factors)
    assert 0.0 <= permuted <= 1.0
    # These two compare what a variable tells of each factor, and do not ask how much that is; at chance they are of
    # ratios of noise, and may be high.
    if name not in {"dci lasso D", "infomec M"}:
        assert permuted < values[name] <= 1.0


@pytest.mark.parametrize("name", SCORES)
def test_dead_variables_change_nothing(known, name):
    """NaN in one popular program, zeros for all later codes in another."""
    codes, factors, values = known
    assert SCORES[name](with_dead(codes), factors) == pytest.approx(values[name], abs=1e-9)


@pytest.mark.parametrize("name", SCORES)
def test_all_variables_dead(name):
    codes, factors = gaussian_codes(np.full((80, 3), 2.5)), mixed(80)[1]
    value = SCORES[name](codes, factors)
    expected = {"explicitness": 0.5, "beta_vae": 0.25, "factor_vae": 0.25, "dci lasso I": 0.1}.get(name, 0.0)
    # Groups: 800 answers of "the commonest factor", standard error .015. Informativeness: the commonest shape / 4.
    assert value == pytest.approx(expected, abs=0.06 if name in {"beta_vae", "factor_vae", "dci lasso I"} else 1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_order_of_variables_does_not_matter(known, name):
    codes, factors, values = known
    order = (5, 2, 0, 3, 1)  # columns 4 to 6 stay together, in front
    columns = np.concatenate([np.arange(4, 7), [codes.columns_of(v)[0] for v in order]])
    turned = Codes(
        codes.columns[:, columns],
        ("shape", *(codes.variables[v] for v in order)),
        (slice(0, 3), (3,), (4,), (5,), (6,), (7,)),
        {"shape": (0,), "noise": (1,), "circle": (2, 4), "line": (3, 5)},
    )
    # Fits that run through the columns one by one stop at another point within their tolerance; trees break ties and
    # the neighbours' noise of 1e-10 is drawn in another order.
    assert SCORES[name](turned, factors) == pytest.approx(values[name], abs=0.01)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("n", [12, 13, 40])
def test_small_tables(name, n):
    rng = np.random.default_rng(n)
    codes = gaussian_codes(rng.normal(size=(n, 2)))
    factors = Factors(np.arange(n)[:, None] % 2, ("side",), ("categorical",))
    assert 0.0 <= SCORES[name](codes, factors) <= 1.0


@pytest.mark.parametrize("name", SCORES)
def test_rows_must_match(name):
    with pytest.raises(ValueError, match="codes have 20 rows, factors have 30"):
        SCORES[name](mixed(20)[0], mixed(30)[1])


@pytest.mark.parametrize("name", SCORES)
def test_circular_factor_does_not_depend_on_its_seam(name):
    rng = np.random.default_rng(3)
    values = np.stack([rng.integers(0, 12, 500), rng.integers(0, 4, 500)], axis=1)
    codes = gaussian_codes(values + rng.normal(scale=0.3, size=values.shape))
    moved = np.stack([(values[:, 0] + 5) % 12, values[:, 1]], axis=1)
    scores = [
        SCORES[name](codes, Factors(some, ("turn", "x"), ("circular", "ordinal"), {"turn": 12}))
        for some in (values, moved)
    ]
    # Equal but for a cross-validated penalty and the order in which groups and folds meet the classes.
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
