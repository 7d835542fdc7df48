"""The scikit-learn estimator: scikit-learn's own checks, frames and arrays in and out, files without code."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyro_hfvae.sklearn import HFVAE

QUICK = {"blocks": {"z": 2, "rest": 1}, "hidden": (8,), "steps": 3, "random_state": 0}


@parametrize_with_checks([HFVAE(**QUICK), HFVAE(**QUICK, discrete={"kind": 2})])
def test_what_scikit_learn_expects(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def wine():
    frame = load_wine(as_frame=True).data.iloc[:, :4].copy()
    frame["sweet"] = np.where(np.arange(len(frame)) % 3, "dry", "sweet")
    frame["awards"] = np.arange(len(frame)) % 5
    frame.loc[3, "alcohol"] = np.nan
    frame.loc[5, "sweet"] = None
    return frame


@pytest.fixture(scope="module")
def fitted(wine):
    return HFVAE(**QUICK, discrete={"kind": 3}).fit(wine)


def test_columns_follow_their_content(fitted):
    kinds = {column.name: column.kind for column in fitted.columns_}
    assert (kinds["alcohol"], kinds["sweet"], kinds["awards"]) == ("number", "category", "count")


def test_blocks_come_out_and_the_table_comes_back(fitted, wine):
    Z = fitted.transform(wine)
    assert fitted.get_feature_names_out().tolist() == ["z[0]", "z[1]", "rest[0]", "kind = 0", "kind = 1", "kind = 2"]
    assert Z.shape == (len(wine), 6)
    np.testing.assert_allclose(Z[:, 3:].sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(fitted.predict(wine), Z[:, 3:].argmax(1))
    np.testing.assert_array_equal(fitted.predict(wine, "kind"), fitted.predict(wine))
    back = fitted.inverse_transform(Z)
    assert back.columns.tolist() == wine.columns.tolist()
    assert set(back["sweet"]) <= {"dry", "sweet"}
    assert back["alcohol"].between(9, 17).all()  # in percent, not in standard deviations


def test_training_explains_the_table_and_finds_the_categories():
    """Two clouds far apart: the score rises, the rows are given back, and the discrete block separates the clouds."""
    side = np.arange(200) % 2
    X = 10 + 3 * side[:, None] * np.array([1.0, -1.0, 1.0]) + 0.1 * np.random.default_rng(0).normal(size=(200, 3))
    start, end = (HFVAE({"z": 2}, {"side": 2}, hidden=(32,), steps=n, random_state=1).fit(X) for n in (1, 600))
    assert end.score(X) > start.score(X) + 2
    assert np.abs(end.inverse_transform(end.transform(X)) - X).mean() < 0.5
    found = end.predict(X)
    assert max((found == side).mean(), (found != side).mean()) > 0.95


def test_the_same_seed_gives_the_same_and_another_does_not(wine):
    one, again, other = (clone(HFVAE(**QUICK | {"random_state": seed})).fit(wine).transform(wine) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_saved_and_loaded_without_code(fitted, wine, tmp_path):
    fitted.save(tmp_path / "wine.npz")
    with np.load(tmp_path / "wine.npz", allow_pickle=False) as content:
        assert all(not content[name].dtype.hasobject for name in content.files)
    loaded = HFVAE.load(tmp_path / "wine.npz")
    np.testing.assert_array_equal(loaded.transform(wine), fitted.transform(wine))
    assert loaded.score(wine) == fitted.score(wine)
    HFVAE(**QUICK | {"random_state": np.int64(3)}).fit(wine).save(tmp_path / "numpy.npz")
    assert HFVAE.load(tmp_path / "numpy.npz").random_state == 3
    assert loaded.get_params() == fitted.get_params() | {"hidden": [8]}  # JSON knows lists only
    pd.testing.assert_frame_equal(
        loaded.inverse_transform(loaded.transform(wine)), fitted.inverse_transform(fitted.transform(wine))
    )
    with pytest.raises(FileNotFoundError, match=r"^there is no estimator at '.*none\.npz'$"):
        HFVAE.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", settings=np.array("{}"), arrays=np.array([], dtype=str))
    with pytest.raises(ValueError, match=r"other\.npz' holds no estimator that can be read: 'settings'$"):
        HFVAE.load(tmp_path / "other.npz")


def test_rows_of_a_group_swap_the_block_they_share(wine):
    groups = np.arange(len(wine)) // 2
    swapped = HFVAE(**QUICK, shared="rest").fit(wine, groups=groups)
    alone = HFVAE(**QUICK).fit(wine)
    assert np.abs(swapped.transform(wine) - alone.transform(wine)).max() > 1e-4
    with pytest.raises(ValueError, match="^shared names 'other', which is no block; those are: z, rest$"):
        HFVAE(**QUICK, shared="other").fit(wine, groups=groups)
    names = ["ann", "ann", *[np.nan] * (len(wine) - 2)]  # nobody knows the others, who are no group
    few = HFVAE(**QUICK).fit(wine, groups=names)
    np.testing.assert_array_equal(
        few.transform(wine), HFVAE(**QUICK).fit(wine, groups=[0, 0, *[None] * 176]).transform(wine)
    )
    with pytest.raises(ValueError, match="^groups need 4 rows or more, got 3"):
        HFVAE(**QUICK).fit(wine.iloc[[0, 1, 2]].drop(columns=["sweet", "awards"]), groups=[0, 0, 1])
    with pytest.raises(ValueError, match=r"^groups is \[3\], expected a label for each of the 178 rows$"):
        HFVAE(**QUICK).fit(wine, groups=[1, 2, 3])


def test_in_pipelines_and_searches(wine):
    X = wine.iloc[:, 1:4]
    search = GridSearchCV(HFVAE(**QUICK), {"within": [1.0, 4.0]}, cv=2).fit(X)
    assert set(search.best_params_) == {"within"}
    pipeline = make_pipeline(StandardScaler(), HFVAE(**QUICK)).set_output(transform="pandas")
    assert pipeline.fit_transform(X).columns.tolist() == ["z[0]", "z[1]", "rest[0]"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="sweet"), "Feature names seen at fit time, yet now missing"),
        (lambda f: f.assign(sweet="bitter"), "column 'sweet' has the unknown category 'bitter' in row 0; known are"),
        (lambda f: f.assign(awards=-1), "column 'awards' has -1 in row 0, expected counts"),
        (lambda f: f.assign(alcohol="much"), "column 'alcohol'"),
    ],
)
def test_rows_of_another_kind(fitted, wine, change, message):
    with pytest.raises(ValueError, match=message):
        fitted.transform(change(wine))


def test_tables_that_cannot_be_trained_on(wine):
    for frame, message in (
        (wine.assign(alcohol=1.0), "'alcohol' is constant: the same value in all rows"),
        (wine.assign(alcohol=np.nan), "'alcohol' is missing in all rows"),
        (wine.iloc[:1], "2"),
    ):
        with pytest.raises(ValueError, match=message):
            HFVAE(**QUICK).fit(frame)
    with pytest.raises(ValueError, match=r"^Z is \[2, 3\], expected \[n, 4\], as of transform$"):
        HFVAE(**QUICK | {"blocks": {"z": 4}}).fit(wine).inverse_transform(np.zeros((2, 3)))


def test_nothing_is_printed(wine, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HFVAE(**QUICK).fit(wine).transform(wine)
    assert capfd.readouterr() == ("", "")
