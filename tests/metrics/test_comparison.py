"""Our metrics beside those of the package disent (extra `comparison`), on the same codes; differences explained.

disent imports torchvision where it reads and transforms images, which none of its metrics does. Where torchvision is
not installed, empty modules stand in for it while disent is imported, and go again.
"""

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from metric_tables import gaussian_codes
from sklearn.linear_model import LinearRegression

from pyro_hfvae.metrics import Factors, dci, disentanglement, factor_vae_score, mig, sap, weighted_completeness
from pyro_hfvae.metrics.regressors import split

pytestmark = pytest.mark.slow

TORCHVISION = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")


def import_disent(name):
    """A module of disent's metrics; the tests are skipped where disent, or what else it needs, is not installed."""
    needs = "needs the extra 'comparison'"
    pytest.importorskip("lightning", reason=needs)  # which looks for torchvision, and must not find a stand-in
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("torchvision") is None:
            parts = {part: ModuleType(part) for part in TORCHVISION}
            parts["torchvision.datasets"].ImageFolder = object  # the base class of a data set
            parts["torchvision.transforms"].functional = parts["torchvision.transforms.functional"]
            parts["torchvision"].transforms = parts["torchvision.transforms"]
            for part, module in parts.items():
                patch.setitem(sys.modules, part, module)
        return pytest.importorskip(f"disent.metrics.{name}", reason=needs)


theirs_dci, theirs_mig, theirs_sap, theirs_factor_vae = map(import_disent, ("_dci", "_mig", "_sap", "_factor_vae"))

SIZES = (3, 4, 5)


def encoded(values):
    """One variable for the first factor, a rotated pair for the others, and a variable that mixes all."""
    centred = values - (np.array(SIZES) - 1) / 2
    pair = centred[:, 1:] @ np.array([[1.0, 0.4], [-0.4, 1.0]])
    return np.hstack([centred[:, :1], pair, 0.3 * centred.sum(axis=1, keepdims=True)])


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, size, 2000) for size in SIZES], axis=1)
    columns = encoded(values) + 0.2 * rng.normal(size=(2000, 4))
    return columns, values


def halves(columns, values):
    """As disent wants them: [codes, n] and [factors, n], train and test."""
    train, test = split(len(columns))
    return columns[train].T, values[train].T, columns[test].T, values[test].T


def test_mig_is_the_same(table):
    columns, values = table
    expected = theirs_mig._compute_mig(columns.T, values.T)["mig.discrete_score"]
    assert mig(gaussian_codes(columns), Factors(values, tuple("abc"), ("ordinal",) * 3)).mig == pytest.approx(expected)


def test_d_is_the_same_of_one_matrix_and_their_c_is_the_weighted_one():
    """They add 1e-11 to each entry before the logarithm. A dead variable has no weight in either."""
    matrix = np.array([[1, 0, 0], [0, 0, 0], [0.2, 0.8, 0], [0, 0, 1]])
    assert disentanglement(matrix) == pytest.approx(theirs_dci._disentanglement(matrix), abs=1e-8)
    assert weighted_completeness(matrix) == pytest.approx(theirs_dci._completeness(matrix), abs=1e-8)


def test_dci_differs_by_its_regressors(table):
    """They boost trees and we grow forests: two importance matrices of one kind. Both classify categorical factors."""
    columns, values = table
    theirs = theirs_dci._compute_dci(*halves(columns, values))
    ours = dci(gaussian_codes(columns), Factors(values, tuple("abc"), ("categorical",) * 3))
    # Columns of R sum to 1 for trees of both kinds, so that both completenesses are the same.
    assert ours.completeness == pytest.approx(ours.weighted_completeness, abs=1e-9)
    assert ours.disentanglement == pytest.approx(theirs["dci.disentanglement"], abs=0.1)
    assert ours.completeness == pytest.approx(theirs["dci.completeness"], abs=0.1)
    assert ours.informativeness == pytest.approx(theirs["dci.informativeness_test"], abs=0.05)


def test_sap_of_ordinal_factors_is_scored_on_other_rows(table):
    """They square the correlation on the rows of the fit; we score a line on the test split."""
    columns, values = table
    theirs = theirs_sap._compute_score_matrix(*halves(columns, values), continuous_factors=True)
    ours = sap(gaussian_codes(columns), Factors(values, tuple("abc"), ("ordinal",) * 3))
    assert np.abs(ours.score - theirs).max() < 0.06  # 500 rows: the standard error of R² is about .03 at most
    train, _ = split(2000)
    line = LinearRegression().fit(columns[train, :1], values[train, 0])
    assert line.score(columns[train, :1], values[train, 0]) == pytest.approx(theirs[0, 0])


def test_sap_of_categories_differs_by_its_classifier(table):
    """They fit a linear SVM to one variable, one class against the rest, which cannot answer a middle class well."""
    columns, values = table
    theirs = theirs_sap._compute_score_matrix(*halves(columns, values), continuous_factors=False)
    ours = sap(gaussian_codes(columns), Factors(values, tuple("abc"), ("categorical",) * 3)).score
    assert ours[0, 0] > 0.95
    assert ours[0, 0] > theirs[0, 0]  # three classes along one variable
    assert (ours.argmax(axis=0) == theirs.argmax(axis=0)).mean() > 0.6


def test_factor_vae_score_is_the_same_but_for_the_draws():
    """They encode new data for each group, we draw groups from a table; without noise that is the same distribution."""
    rng = np.random.default_rng(1)

    def sample_factors(count):
        return np.stack([rng.integers(0, size, count) for size in SIZES], axis=1)

    dataset = SimpleNamespace(
        gt_data=SimpleNamespace(num_factors=3, sample_factors=sample_factors),
        dataset_sample_batch=lambda count, mode: sample_factors(count),
        dataset_batch_from_factors=lambda factors, mode: factors,
    )
    np.random.seed(0)  # disent draws from the global generator
    theirs = theirs_factor_vae.metric_factor_vae.compute(
        dataset, encoded, batch_size=64, num_train=800, num_eval=800, num_variance_estimate=2000
    )
    values = sample_factors(4000)
    ours = factor_vae_score(gaussian_codes(encoded(values)), Factors(values, tuple("abc"), ("ordinal",) * 3))
    # Two accuracies over 800 groups: a standard error of .025 for their difference at most.
    assert ours.score == pytest.approx(theirs["factor_vae.eval_accuracy"], abs=0.08)
