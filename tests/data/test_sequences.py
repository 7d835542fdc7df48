"""Sequences: from arrays, long tables and series; standardised by the steps that are there; and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.data import Sequences
from pyro_hfvae.data import sequences as module

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(3, 2, (5, 4, 2))
LENGTHS = np.array([4, 1, 3, 2, 4])
WITHIN = np.arange(4) < LENGTHS[:, None]
X[~WITHIN] = np.nan  # whatever stands beyond the end is not looked at
GAIT = np.array(["walk", "run", "walk", "walk", "run"])
TEST = np.array([0, 0, 0, 1, 1])
LONG = pd.DataFrame(
    [
        {"id": f"s{n}", "time": 10 * t, "a": X[n, t, 0], "b": X[n, t, 1], "gait": GAIT[n], "test": TEST[n]}
        for t in range(4)
        for n in range(5)
        if t < LENGTHS[n]
    ]
)


def expected(training):
    """x standardised over the steps of the training sequences, one by one."""
    steps = np.array([X[n, t] for n in training for t in range(LENGTHS[n])])
    x = np.zeros_like(X)
    for n in range(5):
        for t in range(LENGTHS[n]):
            x[n, t] = (X[n, t] - steps.mean(0)) / steps.std(0)
    return x


def of_npz(path, **changes):
    content = {"x": X, "lengths": LENGTHS, "feature_names": np.array(["a", "b"]), "gait": GAIT, "test": TEST} | changes
    np.savez(path / "s.npz", **{name: array for name, array in content.items() if array is not None})
    return str(path / "s.npz")


def of_csv(path):
    LONG.to_csv(path / "s.csv", index=False)
    return str(path / "s.csv")


def of_parquet(path):
    LONG[::-1].sort_values("id", kind="stable").to_parquet(path / "s.parquet")
    return str(path / "s.parquet")


@pytest.mark.parametrize(
    "source", [of_npz, of_csv, of_parquet, lambda path: LONG], ids=["npz", "csv", "parquet", "frame"]
)
@pytest.mark.parametrize("block", [2**22, 1])
def test_files(tmp_path, monkeypatch, source, block):
    monkeypatch.setattr(module, "BLOCK", block)
    data = Sequences(source(tmp_path), factors=["gait"], held_out="test")
    batch = data.batch(range(5))
    assert list(batch) == ["x", "lengths"]
    assert (batch.x.dtype, batch["lengths"].dtype) == (torch.float32, torch.int64)
    assert batch["lengths"].tolist() == LENGTHS.tolist()
    np.testing.assert_allclose(batch.x, expected([0, 1, 2]), atol=1e-5)
    assert (batch.x[~torch.from_numpy(WITHIN)] == 0).all()
    assert data.held_out.tolist() == [3, 4]
    assert data.feature_names == ("a", "b")
    assert [(column.name, column.kind) for column in data.columns] == [("a", "number"), ("b", "number")]
    assert data.factor_labels == {"gait": ("run", "walk")}
    assert data.factors([0, 1]).tolist() == [[1], [0]]
    assert (len(data), data.shape) == (5, (4, 2))
    decoded = data.decode(batch.x).numpy()
    np.testing.assert_allclose(decoded[WITHIN], X[WITHIN], atol=1e-5)
    data.prepare(torch.tensor([1, 4]))
    np.testing.assert_allclose(data.batch([2]).x, expected([1, 4])[[2]], atol=1e-5)
    with pytest.raises(IndexError, match="^no datum 5"):
        data.batch([5])


def test_series(tmp_path):
    header = "@classLabel true up down\n@data\n"
    (tmp_path / "A_TRAIN.ts").write_text(header + "1,2:5,7:up\n3:6:down\n")
    (tmp_path / "A_TEST.ts").write_text(header + "4,4,4:0,0,0:down\n")
    data = Sequences(tmp_path / "A_TRAIN.ts", ["class"], held_out=str(tmp_path / "A_TEST.ts"), standardise=False)
    assert data.batch([2, 1]).x.tolist() == [[[4, 0]] * 3, [[3, 6], [0, 0], [0, 0]]]
    assert data.batch([2, 1])["lengths"].tolist() == [3, 1]
    assert data.held_out.tolist() == [2]
    assert data.factors([0, 1, 2]).tolist() == [[1], [0], [0]]
    assert data.feature_names == ("x0", "x1")
    assert torch.equal(data.decode(data.batch([0]).x), data.batch([0]).x.double())


def test_all_steps_where_no_lengths_are_given(tmp_path):
    whole = np.nan_to_num(X).astype(np.float32)
    data = Sequences(of_npz(tmp_path, x=whole, lengths=None), standardise=False)
    assert data.batch([0, 1])["lengths"].tolist() == [4, 4]
    np.testing.assert_allclose(data.batch(range(5)).x, whole, atol=1e-6)
    assert data.factors([0]).shape == (1, 0)


def test_rows_of_several_sequences_may_stand_anywhere():
    frame = LONG.sample(frac=1, random_state=0)
    data = Sequences(frame, factors=["gait"], drop=["test"])
    numbers = [int(name[1:]) for name in frame["id"].unique()]  # in the order in which they begin
    np.testing.assert_allclose(data.batch(range(5)).x, expected(range(5))[numbers], atol=1e-5)
    dates = LONG.assign(time=pd.to_datetime(LONG["time"], unit="h").astype(str))
    assert torch.equal(
        Sequences(dates, drop=["test", "gait"]).batch([0]).x, Sequences(LONG, drop=["test", "gait"]).batch([0]).x
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(1, 3), st.integers(0, 99))
def test_any_lengths(lengths, features, seed):
    random = np.random.default_rng(seed)
    names = [f"f{v}" for v in range(features)]
    rows = [(n, t, *random.normal(size=features)) for n, count in enumerate(lengths) for t in range(count)]
    data = Sequences(pd.DataFrame(rows, columns=["id", "time", *names]))
    batch = data.batch(list(range(len(lengths))))
    assert batch.x.shape == (len(lengths), max(lengths), features)
    assert batch["lengths"].tolist() == lengths
    steps = torch.cat([x[:count] for x, count in zip(batch.x, lengths, strict=True)])
    torch.testing.assert_close(steps.mean(0), torch.zeros(features), atol=1e-5, rtol=0)
    torch.testing.assert_close(steps.std(0, correction=0), torch.ones(features), atol=1e-5, rtol=0)
    one = data.batch([len(lengths) - 1])
    assert torch.equal(one.x, batch.x[-1:])
    assert one["lengths"].tolist() == lengths[-1:]


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"x": None}, {}, "there is no x, [N, T, V]; there is: lengths, feature_names, gait, test"),
        ({"x": X[0]}, {}, "x is float64 [4, 2], expected numbers [N, T, V]"),
        ({"x": X[:0]}, {}, "x is float64 [0, 4, 2], expected numbers"),
        ({"lengths": LENGTHS[:4]}, {}, "lengths is int64 [4], expected integers [5]"),
        ({"lengths": LENGTHS * 1.0}, {}, "lengths is float64 [5], expected integers [5]"),
        ({"lengths": LENGTHS + 1}, {}, "lengths has 5 for sequence 0, expected 1 to 4, the steps of x"),
        ({"lengths": LENGTHS - 1}, {}, "lengths has 0 for sequence 1, expected 1 to 4"),
        ({"lengths": None}, {}, "feature 'a' has nan in sequence 1 at step 1, expected finite numbers; lengths gives"),
        (
            {"x": np.where([True, False], X, np.inf), "feature_names": None},
            {},
            "feature 'x1' has ",
        ),
        ({"x": np.ones((5, 4, 2))}, {}, "feature 'a' has the standard deviation 0: a constant is no feature"),
        ({"x": X[:1], "lengths": LENGTHS[:1]}, {}, "there is 1 sequence, expected 2 or more"),
        ({"feature_names": np.array(["a"])}, {}, "feature_names is ['a'], expected 2 different texts"),
        ({"feature_names": np.array(["a", "a"])}, {}, "feature_names is ['a', 'a'], expected 2 different texts"),
        ({}, {"factors": ["pace"]}, "there is no array 'pace'; beside x there are 'gait', 'test'"),
        ({"gait": GAIT[:4]}, {"factors": ["gait"]}, "gait is <U4 [4], expected [5], a value for each sequence"),
        ({}, {"held_out": "gait"}, "column 'gait' holds 'walk' in row 0, expected numbers"),
        ({}, {"held_out": [5]}, "held_out has 1 numbers, expected different ones from 0 to 4"),
        ({}, {"factors": ["gait"], "factor_kinds": {"gait": "continuous"}}, "column 'gait' holds 'walk' in row 0, exp"),
        (
            {"gait": np.array([None] * 5)},
            {},
            "cannot be read as an npz file of sequences: gait: it holds Python objects",
        ),
    ],
)
def test_what_is_no_such_file(tmp_path, changes, given, message):
    file = of_npz(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"^'{file}'") as error:
        Sequences(file, **given)
    assert message in str(error.value)


def test_a_sequence_that_does_not_vary_in_training(tmp_path):
    data = Sequences(of_npz(tmp_path))
    with pytest.raises(
        ValueError, match="^feature 'a' has the standard deviation 0 among the 1 sequences that are train"
    ):
        data.prepare(torch.tensor([1]))


@pytest.mark.parametrize(
    ("frame", "given", "message"),
    [
        (LONG.drop(columns="id"), {}, "there is no column 'id'; the columns are 'time', 'a', 'b', 'gait', 'test'"),
        (LONG, {"factors": ["pace"]}, "there is no column 'pace'"),
        (LONG, {"drop": ["a", "b", "gait", "test"]}, "no column is left for x"),
        (LONG.assign(time=LONG["time"].where(LONG.index != 3)), {}, "column 'time' has no value in row 3"),
        (LONG.assign(id=LONG["id"].where(LONG.index != 2)), {}, "column 'id' has no value in row 2"),
        (LONG.assign(time=0), {}, "'s0' has more than one row at the time '0'"),
        (LONG, {"drop": ["test"]}, "column 'gait' holds 'walk' in row 0, expected numbers"),
        (
            LONG.assign(a=LONG["a"].where(LONG.index != 6)),
            {"drop": ["gait"]},
            "column 'a' has no value in row 6: missing",
        ),
        (
            LONG.assign(gait=LONG["time"]),
            {"factors": ["gait"]},
            "'s0' has more than one value in column 'gait', expected",
        ),
        (
            LONG.assign(test=LONG["time"]),
            {"held_out": "test", "drop": ["gait"]},
            "'s0' has more than one value in column",
        ),
    ],
)
def test_long_tables_that_do_not_fit(tmp_path, frame, given, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the text is compared
        Sequences(frame, **given)
    assert str(error.value).startswith(message)
    frame.to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 's.csv'}': ") as error:
        Sequences(tmp_path / "s.csv", **given)
    assert message.replace("'0'", "'0") in str(error.value)


def test_series_that_do_not_fit(tmp_path):
    (tmp_path / "a.ts").write_text("@classLabel true u\n@data\n1,2:u\n3:u\n")
    (tmp_path / "b.ts").write_text("@data\n1,2\n")
    with pytest.raises(ValueError, match="b.ts' has other features than '.*a.ts', or only one of them has classes"):
        Sequences(tmp_path / "a.ts", held_out=str(tmp_path / "b.ts"))
    with pytest.raises(ValueError, match="a.ts': there is no 'kind'; of series of this file are known 'test', 'class'"):
        Sequences(tmp_path / "a.ts", ["kind"])
    with pytest.raises(FileNotFoundError, match="^no sequences at "):
        Sequences(tmp_path / "c.ts")
    with pytest.raises(FileNotFoundError, match="^no sequences at "):
        Sequences(tmp_path / "c.npz")
