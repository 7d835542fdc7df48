"""Distorted copies: a function of seed and step, of the kind that was drawn, with the blocks that it leaves alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.data import Batch
from pyro_hfvae.weak import Views
from pyro_hfvae.weak.distortions import Affine, ColumnDropout, Jitter


def doubled(x, generator):
    return 2 * x


def noisy(x, generator):
    return x + torch.randn(x.shape, generator=generator)


def in_place(x, generator):
    x += 7
    return x


def shortened(x, generator, lengths):
    return x * (torch.arange(x.shape[1]) < lengths[:, None] - 1)[..., None]


BLOCKS = {"digit": ["doubled", "noisy"], "colour": ["noisy"], "rest": []}
DISTORTIONS = {"doubled": [doubled], "noisy": [noisy, doubled]}


def data(count, seed=0):
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return Batch(x=x, library=torch.arange(float(count)))


@settings(deadline=None)
@given(count=st.integers(1, 20), step=st.integers(0, 99), identity=st.sampled_from([0.0, 0.4, 0.9]))
def test_copies_kinds_and_blocks(count, step, identity):
    views = Views(BLOCKS, DISTORTIONS, identity=identity)
    batch, before = data(count), data(count)
    copies, copied, shared = views.copies(batch, seed=5, step=step)
    assert batch.x.equal(before.x)
    assert list(copies) == ["x", "library"]
    assert copies["library"].equal(batch["library"][copied])
    assert copied.equal(copied.unique())
    assert len(copied) == count or identity
    assert all(mask.shape == copied.shape and mask.dtype == torch.bool for mask in shared.values())
    assert shared["digit"].all()
    assert not shared["rest"].any()
    twice = (copies.x == 2 * batch.x[copied]).all(1)
    assert twice.equal(~shared["colour"])
    again, *_ = views.copies(batch, seed=5, step=step)
    assert again.x.equal(copies.x)


def test_seeds_and_steps_draw_copies_of_their_own():
    views = Views({"digit": ["noisy"]}, {"noisy": [noisy]})
    found = [views.copies(data(8), seed, step)[0].x for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(x.flatten().tolist()) for x in found}) == 4


def test_shares_of_kinds_and_of_data_without_a_copy():
    views = Views(BLOCKS, DISTORTIONS, identity=0.3)
    _, copied, shared = views.copies(data(10_000), 0, 0)
    # 10,000 draws: 5 standard errors.
    assert abs(len(copied) / 10_000 - 0.7) < 5 * math.sqrt(0.21 / 10_000)
    assert abs(shared["colour"].double().mean() - 0.5) < 5 * math.sqrt(0.25 / 7_000)


def test_functions_get_the_covariates_that_they_take_and_may_write_into_what_they_get():
    x = torch.ones(3, 4, 2)
    batch = Batch(x=x, lengths=torch.tensor([4, 2, 1]))
    copies, *_ = Views({"a": ["b"]}, {"b": [shortened, Jitter(1e-9)]}).copies(batch, 0, 0)
    assert copies.x.sum((1, 2)).round().tolist() == [6, 2, 0]
    assert copies["lengths"].equal(batch["lengths"])
    copies, *_ = Views({"a": ["b"]}, {"b": [in_place]}).copies(batch, 0, 0)
    assert copies.x.equal(x + 7)
    assert batch.x.equal(torch.ones(3, 4, 2))


def test_the_copies_have_the_type_of_the_data():
    views = Views({"a": ["b"]}, {"b": [lambda x, generator: x.double()]})
    assert views.copies(data(4), 0, 0)[0].x.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": 1.0}, "views.identity must be from 0 to below 1, got 1.0"),
        ({"blocks": {"digit": ["turned"]}}, "of block 'digit' names 'turned'; the kinds .* are: 'doubled', 'noisy'"),
        ({"blocks": {"digit": "noisy"}}, "views.blocks of block 'digit' must be a list of names, got 'noisy'"),
        (
            {"blocks": {"digit": ["noisy"]}},
            "views.distortions 'doubled' leaves no block alone: name it in views.blocks",
        ),
        ({"blocks": {"rest": []}}, "views.distortions 'doubled' leaves no block alone"),
        ({"blocks": {"a": ["b"]}, "distortions": {"b": []}}, "views.distortions 'b' is empty: name one distortion"),
        ({"blocks": {}, "distortions": {}}, "views.distortions names no kind of copies"),
        ({"swap": True}, "block 'rest' would never learn: no view leaves it alone.*set views.identity above 0"),
    ],
)
def test_what_does_not_match(options, message):
    with pytest.raises(ValueError, match=message):
        Views(**{"blocks": BLOCKS, "distortions": DISTORTIONS} | options)
    if "swap" in options:
        Views(BLOCKS, DISTORTIONS, swap=True, identity=0.3)
        Views(BLOCKS, DISTORTIONS, swap=True, gated=False)


def failing(x, generator):
    raise RuntimeError("a fault")


@pytest.mark.parametrize(
    ("distortion", "message"),
    [
        (lambda x, generator: x[:, :2], r"<lambda> returns float32 \[5, 2\] for data of shape \[5, 3\]; copies must"),
        (lambda x, generator: x[:3], r"returns float32 \[3, 3\] for data of shape \[5, 3\]"),
        (lambda x, generator: x.long(), r"returns int64 \[5, 3\] for data of shape \[5, 3\]"),
        (lambda x, generator: None, "returns NoneType for data"),
        (lambda x: x, "TypeError: .* takes 1 positional argument but 2 were given"),
        (failing, "RuntimeError: a fault"),
        (Affine(rotation=3), r"Affine distorts images \[B, C, H, W\], but the data are \[5, 3\]"),
    ],
)
def test_distortions_that_do_not_fit_the_data_are_found_by_a_try(distortion, message):
    views = Views({"a": ["first", "second"]}, {"first": [ColumnDropout(0.5)], "second": [doubled, distortion]})
    with pytest.raises(ValueError, match=f"^views.distortions 'second': .*{message}"):
        views.check(data(5))
