"""Pairs that are left out: against sorting by hand, with other masks, particles, and inside the objective."""

import doctest

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from support import numbers

from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import VAE
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.poutine import gate, swap, trim, trim_messenger


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist, "trim": trim}
    results = doctest.testmod(trim_messenger, extraglobs=names)
    assert results.attempted == 5
    assert results.failed == 0


def mask_of(x, loc, *given, **options):
    def model():
        with pyro.plate("data", x.shape[-2]):
            z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.detach() * 0 + loc, 0.5).to_event(1), obs=x)

    with trim(*given, **options):
        nodes = poutine.trace(model).get_trace().nodes
    assert nodes["z"]["mask"] is None
    return nodes["x"]["mask"]


@settings(max_examples=30, deadline=None)
@given(data=st.data(), pairs=st.integers(0, 6), singles=st.integers(0, 3), particles=st.integers(0, 2))
def test_against_sorting_by_hand(data, pairs, singles, particles):
    """Pairs lie anywhere in the batch; data without a partner are never left out."""
    count = 2 * pairs + singles
    if not count:
        return
    places = data.draw(st.permutations(range(count)))
    couples = [(places[2 * k], places[2 * k + 1]) for k in range(pairs)]
    kinds = data.draw(st.lists(st.sampled_from(["pose", "expression", "none"]), min_size=pairs, max_size=pairs))
    some = st.sampled_from([0.0, 0.2, 0.34, 0.5, 0.9])
    share = data.draw(some | st.dictionaries(st.sampled_from(["pose", "expression"]), some))
    partners = torch.arange(count)
    masks = {name: torch.zeros(count, dtype=torch.bool) for name in ("pose", "expression")}
    for kind, (one, other) in zip(kinds, couples, strict=True):
        partners[one], partners[other] = other, one
        if kind != "none":
            masks[kind][[one, other]] = True
    if data.draw(st.booleans()):  # a mask may name data without a partner
        masks["pose"] |= partners == torch.arange(count)
    lead = (particles,) if particles else ()
    x, loc = numbers(*lead, count, 3), numbers(*lead, count, 3, seed=1)
    found = mask_of(x, loc, masks, partners, share)

    errors = ((x - loc) ** 2).sum(-1).reshape(-1, count).mean(0)
    left_out = set()
    for name in masks:
        mine = [couple for kind, couple in zip(kinds, couples, strict=True) if kind == name]
        mine.sort(key=lambda couple: -float(errors[list(couple)].sum()))
        part = share.get(name, 0.0) if isinstance(share, dict) else share
        left_out |= {place for couple in mine[: int(part * len(mine))] for place in couple}
    kept = [place not in left_out for place in range(count)]
    assert found is None or found.tolist() == kept
    assert found is not None or all(kept)


def test_a_pair_is_judged_by_both_data_and_all_particles():
    """The first pair has the worst first datum, the second the worst first particle, the third the worst sum."""
    errors = torch.tensor([[5.0, 0, 3, 3, 2, 4], [5.0, 0, 0, 0, 4, 4]]).sqrt()
    mask = mask_of(
        errors[..., None], torch.zeros(2, 6, 1), {"pose": torch.arange(6) < 6}, torch.tensor([1, 0, 3, 2, 5, 4]), 0.34
    )
    assert mask.tolist() == [True, True, True, True, False, False]


def test_a_mask_that_is_there_stays():
    x, partners = torch.tensor([[0.0], [0.1], [5.0], [0.0]]), torch.tensor([1, 0, 3, 2])

    def model():
        with pyro.plate("data", 4), poutine.mask(mask=torch.tensor([False, True, True, True])):
            pyro.sample("x", dist.Normal(torch.zeros(1), 1.0).to_event(1), obs=x)

    with trim({"pose": torch.ones(4, dtype=torch.bool)}, partners, 0.5):
        mask = poutine.trace(model).get_trace().nodes["x"]["mask"]
    assert mask.tolist() == [False, True, False, False]


@pytest.fixture
def programs():
    with pyro.settings.context(module_local_params=True):
        torch.manual_seed(0)
        model = ImageModel({"z": 2}, {"y": 3}, lambda size: MLPDecoder(size, (1, 8, 8), [6]))
        guide = ImageGuide({"z": 2}, {"y": 3}, lambda: MLPEncoder((1, 8, 8), [6]))
        yield model.double(), guide.double()


def test_what_is_left_out_teaches_the_decoder_nothing(programs):
    """The gradient of the decoder is that of the kept data alone, inside gates and swaps too."""
    model, guide = programs
    x, partners, shared = numbers(6, 1, 8, 8).sigmoid(), torch.tensor([1, 0, 3, 2, 4, 5]), torch.arange(6) < 4
    masks = {"z": shared}
    gates = {"z": shared, "y": ~shared}

    def gradient(share, kept):
        torch.manual_seed(1)
        with gate(gates), swap(masks, partners), trim(masks, partners, share):
            terms = VAE(100).terms(model, guide, x)
        trained = terms.reconstruction if kept is None else None
        if kept is not None:
            torch.manual_seed(1)
            with gate(gates), swap(masks, partners):
                trace = poutine.trace(guide).get_trace(x)
                nodes = poutine.trace(poutine.replay(model, trace=trace)).get_trace(x).nodes
            trained = nodes["x"]["fn"].log_prob(x)[kept].sum() / 6
        return torch.autograd.grad(trained, list(model.observation.decoder.parameters())), trained

    trimmed, value = gradient(0.5, None)
    candidates = [gradient(0.0, torch.tensor(kept)) for kept in ([0, 1, 4, 5], [2, 3, 4, 5])]
    expected, of_kept = max(candidates, key=lambda found: found[1].item())
    torch.testing.assert_close(value, of_kept, rtol=1e-12, atol=0)
    for one, other in zip(trimmed, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


HALF = {"pose": torch.tensor([True, True, False])}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            (HALF, torch.tensor([1, 0, 2]), 1.0),
            ValueError,
            r"^the share of pairs to be left out must be from 0 to below",
        ),
        (
            (HALF, torch.tensor([1, 0, 2]), {"pose": -0.1}),
            ValueError,
            r"^the share of pairs to be left out must be from 0",
        ),
        (
            (HALF, torch.tensor([1, 0, 2]), {"look": 0.1}),
            ValueError,
            r"^there is a share for 'look', but no such mask; those are: pose$",
        ),
        ((HALF, torch.tensor([1, 2, 0]), 0.5), ValueError, r"^partners must be each other's: the partner of a datum's"),
        (
            (HALF, torch.tensor([1, 0]), 0.5),
            ValueError,
            r"^the mask of 'pose' has the shape \(3,\), but there are 2 par",
        ),
        (
            ({"pose": torch.ones(2)}, torch.tensor([1, 0]), 0.5),
            TypeError,
            r"^the mask of block 'pose' must be a boolean",
        ),
    ],
)
def test_what_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        trim(*given)


def test_a_batch_of_another_size_is_refused():
    partners = torch.tensor([1, 0, 3, 2])
    with pytest.raises(ValueError, match=r"^there are 4 partners, but site 'x' has the batch shape \(3,\)"):
        mask_of(numbers(3, 2), numbers(3, 2), {"pose": torch.ones(4, dtype=torch.bool)}, partners, 0.5)


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_arrays_and_lists(kind):
    x = torch.tensor([[0.1], [0.0], [4.0], [0.2]])
    mask = mask_of(x, torch.zeros(4, 1), {"pose": kind([True] * 4)}, kind([1, 0, 3, 2]), 0.5)
    assert mask.tolist() == [True, True, False, False]
