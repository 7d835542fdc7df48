"""The memory: the same marginal as a direct sum over batch and remembered data, and a state that can be kept."""

import io
import math
import subprocess
import sys
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from aggregates import Batch, Group, draw_batch, estimated, log_aggregates, sample_of, variables
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.infer import Exact, Memory, Minibatch, data_keys, pairwise
from pyro_hfvae.infer import memory as memory_module
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.infer.references import Bank
from pyro_hfvae.sites import read_site


def data_set(size, normal, categories, dtype=torch.float64, seed=0):
    """Posteriors of N data, [1, N, ...], and the data: a number for each."""
    data = torch.randperm(10 * size, generator=torch.Generator().manual_seed(seed))[:size]
    return draw_batch(1, size, normal, categories, seed, dtype), data


def filled(memory, posteriors, data, batches, data_size):
    for which in batches:
        memory.record(sample_of(posteriors[which], data[which]), data_size)
    return memory


def slots_of(memory, data):
    """Which of the data each slot holds, by number."""
    number = {int(key): place for place, key in enumerate(data_keys.hash_rows(data))}
    return [number[int(key)] for key in memory._slots["key"]]


def by_hand(batch, others, group, data_size):
    """E[log q̂(z_G)] [S, B] over the batch and a list of remembered posteriors, one datum after the other."""
    rows = torch.empty(batch.value.shape[:2], dtype=torch.float64)
    references = [batch[[b]] for b in range(batch.value.shape[1])] + others
    for s in range(rows.shape[0]):
        for b in range(rows.shape[1]):
            mixture_of_all = 0.0
            for index, reference in enumerate(references):
                row = s if index < rows.shape[1] else 0
                own = index == b
                weight = 1 / data_size if own else (data_size - 1) / data_size / (len(references) - 1)
                density = torch.ones((), dtype=torch.float64)
                for d in group.normal:
                    normal = torch.distributions.Normal(reference.loc[row, 0, d], reference.scale[row, 0, d])
                    density = density * normal.log_prob(batch.value[s, b, d]).exp()
                masses = torch.ones((1,), dtype=torch.float64)
                for v in group.discrete:
                    masses = (masses[:, None] * reference.log_mass[v][row, 0].exp()).flatten()
                mixture_of_all = mixture_of_all + weight * density * masses
            of_own = torch.ones((1,), dtype=torch.float64)
            for v in group.discrete:
                of_own = (of_own[:, None] * batch.log_mass[v][s, b].exp()).flatten()
            rows[s, b] = (of_own * mixture_of_all.log()).sum()
    return rows


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    remembered=st.integers(1, 6),
    overlap=st.integers(0, 4),
    normal=st.integers(0, 3),
    categories=st.lists(st.integers(1, 3), max_size=2),
    surplus=st.integers(0, 20),
    chunk=st.sampled_from([1, 20, 2**17]),
)
def test_against_a_direct_sum(batch, remembered, overlap, normal, categories, surplus, chunk):
    """The first ``overlap`` data of the batch are in the memory too: their old posteriors must not count."""
    overlap = min(overlap, batch, remembered)
    size = batch + remembered - overlap
    if not normal and not categories:
        return
    posteriors, data = data_set(size + surplus, normal, categories)
    old, _ = data_set(size + surplus, normal, categories, seed=1)
    first = list(range(batch))
    seen = list(range(batch - overlap, batch - overlap + remembered))
    memory = filled(Memory(remembered), old, data, [seen], size + surplus)
    others = [old[[index]] for index in seen if index not in first]
    if not others and batch == 1:
        return  # no other datum at all
    inputs = posteriors[first].leaf()
    groups = [Group(tuple(range(normal)), tuple(range(len(categories))))]
    groups += [Group((index,)) for index in range(normal)] + [Group((), (v,)) for v in range(len(categories))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise, "CHUNK_NUMBERS", chunk)
        found = estimated(memory, inputs, groups, size + surplus, data[first])
        expected = [by_hand(inputs, others, group, size + surplus) for group in groups]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        options = {"allow_unused": True, "materialize_grads": True}
        ours = torch.autograd.grad(sum((0.3 + part).square().sum() for part in found), inputs.leaves, **options)
        theirs = torch.autograd.grad(sum((0.3 + part).square().sum() for part in expected), inputs.leaves, **options)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("size", [12, 100])
def test_a_memory_of_all_data_is_the_exact_marginal(size):
    """After one epoch of unequal batches, and in any later one: every datum counts once, with weight 1/N."""
    posteriors, data = data_set(12, 3, [2])
    groups = [Group((0, 1, 2), (0,)), Group((0, 2)), Group((1,))]
    exact = estimated(Exact(), posteriors, groups, 12)
    memory = filled(Memory(size), posteriors, data, torch.arange(12).split(5), 12)
    assert len(memory) == 12
    for which in torch.randperm(12, generator=torch.Generator().manual_seed(0)).split(5):
        found = estimated(memory, posteriors[which], groups, 12, data[which])
        for ours, theirs in zip(found, exact, strict=True):
            torch.testing.assert_close(ours, theirs[:, which], rtol=1e-10, atol=1e-10)
        filled(memory, posteriors, data, [which], 12)
        assert len(memory) == 12


def test_an_empty_memory_is_the_papers_estimator():
    posteriors, data = data_set(6, 2, [3])
    groups = [Group((0, 1), (0,)), Group((1,))]
    ours = estimated(Memory(9), posteriors, groups, 50, data)
    theirs = estimated(Minibatch(), posteriors, groups, 50)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_oldest_make_place():
    posteriors, data = data_set(9, 1, [])
    memory = filled(Memory(4), posteriors, data, [[0, 1], [2, 3], [0, 4], [5]], 9)
    assert set(slots_of(memory, data)) in ({0, 3, 4, 5}, {0, 2, 4, 5})


def test_a_batch_larger_than_the_memory_is_kept_in_part():
    posteriors, data = data_set(9, 1, [])
    assert len(filled(Memory(4), posteriors, data, [list(range(9))], 9)) == 4


def test_staleness_is_the_divergence_from_what_is_remembered():
    old, data = data_set(5, 2, [3])
    new, _ = data_set(5, 2, [3], seed=1)
    memory = Memory(5)
    assert math.isnan(memory.staleness)
    filled(memory, old, data, [[0, 1, 2]], 5)
    assert math.isnan(memory.staleness)
    filled(memory, new, data, [[1, 2, 3]], 5)
    normal, masses = torch.distributions.Normal, torch.distributions.Categorical
    kl = torch.distributions.kl_divergence
    expected = kl(normal(new.loc[0], new.scale[0]), normal(old.loc[0], old.scale[0])).sum(-1)
    expected = expected + kl(masses(logits=new.log_mass[0][0]), masses(logits=old.log_mass[0][0]))
    torch.testing.assert_close(memory.staleness, expected[1:3].mean())


def sampled(memory, data, order, step):
    """What a single variable is set against: every slot's weight, with ``order`` its sorted slots, by hand."""
    batch = {int(key) for key in data_keys.hash_rows(data)}
    present = [int(key) not in batch for key in memory._slots["key"]]
    weights = [0.0] * len(present)
    for rank, slot in enumerate(order):
        tail = rank < memory_module.TAIL or rank >= len(order) - memory_module.TAIL
        if present[slot] and (tail or (rank - memory_module.TAIL - memory._clock) % step == 0):
            weights[slot] = 1.0 if tail else float(step)
    return [weight * sum(present) / sum(weights) for weight in weights]


def test_a_single_variable_is_set_against_a_systematic_sample_that_stands_for_all(monkeypatch):
    monkeypatch.setattr(memory_module, "SYSTEMATIC", 6)
    monkeypatch.setattr(memory_module, "TAIL", 2)
    posteriors, data = data_set(28, 2, [])
    memory = filled(Memory(28), posteriors, data, torch.arange(28).split(7), 28)
    seen = [set(), set()]
    for which in [*torch.arange(28).split(7), *torch.arange(28).roll(7).split(7)]:
        some = posteriors[which]
        found = estimated(memory, some, [Group((0,)), Group((1,))], 28, data[which])
        for variable, row in enumerate(found):
            loc, scale = (memory._slots[name][:, variable].double() for name in ("z/0", "z/1"))
            weights = sampled(memory, data[which], sorted(range(28), key=loc.tolist().__getitem__), 4)
            assert math.isclose(sum(weights), 21)
            seen[variable] |= {slot for slot, weight in enumerate(weights) if weight}
            for b in range(7):
                z = some.value[0, b, variable]
                others = [(1.0, some.loc[0, c, variable], some.scale[0, c, variable]) for c in range(7) if c != b]
                others += list(zip(weights, loc, scale, strict=True))
                mixture = sum(w * torch.distributions.Normal(m, s).log_prob(z).exp() for w, m, s in others)
                own = torch.distributions.Normal(some.loc[0, b, variable], some.scale[0, b, variable]).log_prob(z)
                expected = (own.exp() / 28 + 27 / (28 * 27) * mixture).log()
                torch.testing.assert_close(row[0, b], expected, rtol=1e-10, atol=1e-10)
        filled(memory, posteriors, data, [which], 28)
    assert [len(slots) for slots in seen] == [28, 28]  # each phase twice, with other data in the batch


def test_the_systematic_sample_is_nearer_to_all_than_1024_at_random():
    """Root mean squared error of log q̂ over samples and steps, of about 400 and of 1,024 references; half would do."""
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(1, 4096, 1, generator=generator, dtype=torch.float64)
    scale = torch.full_like(loc, 0.1)
    noise = torch.randn(1, 4096, 1, generator=generator, dtype=torch.float64)
    posteriors, data = Batch(loc + scale * noise, loc, scale), torch.arange(4096)
    memory = filled(Memory(4096), posteriors, data, torch.arange(4096).split(512), 4096)
    which = torch.arange(100)
    some = posteriors[which]
    errors = []
    for _ in range(5):
        references = memory.references(sample_of(some, data[which]), 4096)
        bank = references.bank
        assert 256 + 128 <= bank.thin_weights["z"].shape[-1] <= 640
        rest = torch.randperm(4096, generator=generator)[:1024]
        weight = math.log(4095 / 4096) - (99 + bank.present[rest].sum()).log()
        site = bank.sites["z"]
        few = site.at(site.with_parameters([part[rest] for part in site.parameters()], torch.Size([1024])), site.value)
        fewer = replace(references, bank=Bank({"z": few}, {}, bank.present[rest]), other=weight)
        of_all = replace(references, bank=replace(bank, thinned={}))
        values = [log_aggregates(some, [Group((0,))], each)[0] for each in (of_all, references, fewer)]
        errors.append(torch.stack([value - values[0] for value in values[1:]]).square().mean((1, 2)))
        filled(memory, posteriors, data, [which], 4096)
    sampled, random = torch.stack(errors).mean(0).sqrt()
    assert sampled < 0.5 * random, (sampled, random)


def test_data_that_come_back_keep_their_place():
    posteriors, data = data_set(9, 1, [])
    memory = filled(Memory(6), posteriors, data, [[0, 1, 2], [3, 4, 5]], 9)
    before = slots_of(memory, data)
    filled(memory, posteriors, data, [[4, 2, 0]], 9)
    assert slots_of(memory, data) == before
    filled(memory, posteriors, data, [[8, 0, 7]], 9)  # 1 is the oldest, then 3 and 5
    assert slots_of(memory, data) == [{1: 8, 3: 7}.get(number, number) for number in before]


def test_a_datum_that_is_twice_in_a_batch_and_one_that_the_memory_has_no_room_for():
    posteriors, data = data_set(9, 1, [])
    memory = filled(Memory(4), posteriors, data, [[0, 1, 2], [1, 1, 3]], 9)
    assert len(memory) == 4
    filled(memory, posteriors, data, [[1, 4, 5, 6, 7]], 9)
    assert set(slots_of(memory, data)) == {1, 4, 5, 6}


def keys_of(data):
    return data_keys.keys_of([data], len(data), data.device)


@given(
    rows=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.bool, torch.int64]),
)
def test_a_datum_has_the_same_key_in_every_batch_and_another_than_others(rows, shape, dtype):
    data = torch.arange(rows).view(-1, *[1] * len(shape)).expand(rows, *shape).to(dtype)
    keys = keys_of(data)
    assert torch.equal(keys_of(data.flip(0).contiguous()), keys.flip(0))
    if rows > 1:
        assert torch.equal(keys_of(data[1:]), keys[1:])
    assert len(set(keys.tolist())) == len({str(row.tolist()) for row in data})


def test_images_that_differ_in_one_pixel_have_different_keys():
    images = (torch.rand(300, 1, 28, 28, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    other = images.clone()
    other[:, 0, 27, 27] = 1 - other[:, 0, 27, 27]
    assert len(set(keys_of(torch.cat([images, other])).tolist())) == 600


def test_the_state_is_kept_and_read_without_pickle(monkeypatch):
    monkeypatch.setattr(memory_module, "SYSTEMATIC", 1)
    monkeypatch.setattr(memory_module, "TAIL", 1)
    monkeypatch.setattr(memory_module, "SORTED", 0)  # an order that lasts, and so must be kept
    posteriors, data = data_set(12, 2, [3], dtype=torch.float32)
    batches = torch.arange(12).split(5)
    memory = filled(Memory(8), posteriors, data, batches, 12)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    resumed = Memory(8)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for either in (memory, resumed):
        filled(either, posteriors, data, batches, 12)
    assert memory.get_extra_state()["clock"] == resumed.get_extra_state()["clock"] == 6
    for name, slot in memory.get_extra_state()["slots"].items():
        torch.testing.assert_close(slot, resumed.get_extra_state()["slots"][name], rtol=0, atol=0, equal_nan=True)
    which = [0, 7, 3]
    groups = [Group((0, 1), (0,)), Group((0,))]
    ours, theirs = (estimated(either, posteriors[which], groups, 12, data[which]) for either in (memory, resumed))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="a memory of 8 data does not fit into one of size=7"):
        Memory(7).set_extra_state(memory.get_extra_state())


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="the memory's size must be 1 or more, got 0"):
        Memory(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_narrow_posteriors_keep_their_log_density(dtype):
    """The product form cancels: at a scale of .003 float32 would be off by .4 nats, float64 is to rounding."""
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(1, 20, 10, generator=generator, dtype=dtype)
    scale = torch.full_like(loc, 0.003)
    loc[:, 10:] = loc[:, :10] + 0.003 * torch.randn(1, 10, 10, generator=generator, dtype=dtype)
    value = loc + scale * torch.randn(loc.shape, generator=generator, dtype=dtype)
    (found,) = estimated(Exact(), Batch(value, loc, scale), [Group(tuple(range(10)))], 20, dtype=dtype)
    direct = torch.distributions.Normal(loc.double()[:, None], scale.double()[:, None])
    expected = direct.log_prob(value.double()[:, :, None]).sum(-1).logsumexp(-1) - math.log(20)
    # 1e-5 nats in float32 is the rounding of a result of size 40, nothing else.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("scale", [0.3, 0.03, 0.003])
@pytest.mark.parametrize("discrete", [(), (0,)])
def test_sums_in_float32_are_off_by_rounding_only(scale, discrete):
    """The same float32 posteriors, with everything in float64 and with the sums over pairs in float32.

    A result of size v is good to a few ε (1 + |v|). The gradient of a sample z is to a few ε |z| / σ², which is what
    the rounding of z does to (z - μ) / σ². Those of μ and σ, which the further references have no part in, are to ε.
    """
    generator = torch.Generator().manual_seed(0)
    loc = 2 * torch.randn(1, 300, 4, generator=generator)
    loc[:, 1::2] = loc[:, ::2] + scale * torch.randn(1, 150, 4, generator=generator)  # each has one that is near
    spread = scale * (0.5 + torch.rand(1, 300, 4, generator=generator))
    value = loc + spread * torch.randn(loc.shape, generator=generator)
    logits = 3 * torch.randn(1, 300, 5, generator=generator)
    posteriors, data, which = Batch(value, loc, spread, (logits,)), torch.arange(300), torch.arange(40)
    memory = filled(Memory(300), posteriors, data, [list(range(300))], 300)
    groups = [Group((0, 1, 2, 3), discrete), Group((0, 1)), Group((0, 1), (0,)), Group((2,))]
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs = posteriors[which].map(lambda part, dtype=dtype: part.to(dtype)).leaf()
        found = estimated(memory, inputs, groups, 300, data[which], dtype)
        results.append((found, torch.autograd.grad(sum(part.sum() for part in found), inputs.leaves)))
    epsilon = torch.finfo(torch.float32).eps
    (narrow, narrow_gradients), (wide, wide_gradients) = results
    for a, b in zip(narrow, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=4 * epsilon * (1 + b.abs().max().item()))
    size = value.abs().max().item() / (0.5 * scale) ** 2
    for a, b, error in zip(narrow_gradients, wide_gradients, (epsilon * size, 0.0, 0.0), strict=False):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=8 * error + 1e-6 * b.abs().max().item())
    torch.testing.assert_close(narrow_gradients[3].double(), wide_gradients[3], rtol=1e-4, atol=1e-5)


def programs():
    layer = torch.nn.Linear(4, 4)

    def guide(x):
        pyro.module("layer", layer)
        loc, scale = layer(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([z, z], -1), 1.0).to_event(1), obs=x)

    return model, guide


def test_a_subsample_of_the_first_argument_is_refused():
    def guide(x):
        with pyro.plate("data", len(x), subsample_size=8) as chosen:
            pyro.sample("z", dist.Normal(x[chosen], 0.5).to_event(1))

    def model(x):
        with pyro.plate("data", len(x), subsample_size=8) as chosen:
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[chosen])

    match = "which has 30 rows for a batch of 8; give the batch itself"
    with pytest.raises(ValueError, match=match):
        HierarchicalELBO(30, between=2.0, marginal=Memory(30)).differentiable_loss(model, guide, torch.randn(30, 4))
    with pytest.raises(ValueError, match=match):  # equal weights need no marginal before the step's end
        HierarchicalELBO(30, marginal=Memory(30)).loss_and_grads(model, guide, torch.randn(30, 4))


@pytest.mark.parametrize("options", [{}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}])
def test_training_fills_the_memory_and_looking_does_not(options):
    torch.manual_seed(0)
    model, guide = programs()
    x = torch.randn(30, 4)
    module = HierarchicalELBO(30, marginal=Memory(20), **options)(model, guide)
    module.terms(x[:8])
    module.elbo.loss(model, guide, x[:8])
    module.aggregate_terms([(x[:8],)])
    with torch.no_grad():
        module(x[:8])
    module.eval()
    module(x[:8])
    module.train()
    module.step()
    assert len(module.marginal) == 0
    module(x[:8])
    assert len(module.marginal) == 0  # until the step ends
    module(x[8:16])  # of the same step, where gradients are accumulated
    module.step()
    assert len(module.marginal) == 16
    module.elbo.loss_and_grads(model, guide, x[:8])
    assert len(module.marginal) == 16  # the same data again
    module.elbo.loss_and_grads(model, guide, x[16:23])
    assert len(module.marginal) == 20
    assert len(module.elbo.marginal) == 0  # the setting is no state


@pytest.mark.slow
def test_a_batch_of_16384_in_less_than_a_gigabyte():
    """10 + 10 variables, value and gradient; what Python and torch take before is counted too."""
    program = """
import resource, torch
import pyro.distributions as dist
from pyro_hfvae.blocks import Variable
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.infer.references import References
from pyro_hfvae.sites import read_site
torch.set_num_threads(1)
B, D = 16384, 20
parts = [torch.randn(1, B, D).requires_grad_() for _ in range(2)] + [(torch.rand(1, B, D) + .1).requires_grad_()]
sites = {"z": read_site("z", dist.Normal(*parts[1:]).to_event(1), parts[0])}
names = [range(D), range(10), range(10, 20), *([index] for index in range(D))]
groups = [frozenset(Variable("z", index, "") for index in some) for some in names]
table = Factorised(sites, sites, References(own=-11.0, other=-9.7, parts=[sites]), torch.float32)
table.aggregate(groups).sum().backward()
assert all(part.grad.isfinite().all() for part in parts)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    gigabytes = float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
    assert gigabytes < 1.0


def test_an_estimator_of_ones_own_is_given_every_batch_of_a_step():
    class Recorder(Minibatch):
        def record(self, sample, data_size):
            recorded.append((sample.shape[1], data_size))

    recorded = []
    model, guide = programs()
    module, x = HierarchicalELBO(30, marginal=Recorder())(model, guide), torch.randn(9, 4)
    module.terms(x)
    module(x)
    module(x[:5])
    assert recorded == []
    module.step()
    assert recorded == [(9, 30), (5, 30)]
    module.step()
    assert len(recorded) == 2


N, V = 9, 3
ATOMS = ("Dirichlet", "flow")
"""Families of which only the joint density of all V numbers is known."""

torch.manual_seed(0)
FLOW = dist.transforms.affine_coupling(V, [4]).double()
"""Learned, and the same for all data: what is remembered is evaluated with it as it is now."""


def family(name, h):
    """A posterior of V variables from V² numbers for each datum."""
    positive = h.sigmoid() + 0.3
    lower = 0.3 * h.unflatten(-1, (V, V)).tril(-1) + torch.diag_embed(positive[..., :V])
    if name == "Gamma":
        return dist.Gamma(3 * positive[..., :V], positive[..., V : 2 * V]).to_event(1)
    if name == "LogNormal":
        return dist.LogNormal(h[..., :V], positive[..., :V]).to_event(1)
    if name == "Laplace":  # log_prob is all that is known of it
        return dist.Laplace(h[..., :V], positive[..., :V]).to_event(1)
    if name == "Dirichlet":
        return dist.Dirichlet(3 * positive[..., :V])
    if name == "flow":
        h = h.double()
        return dist.TransformedDistribution(dist.Normal(h[..., :V], 0.3 + h[..., V : 2 * V].exp()).to_event(1), [FLOW])
    if name == "MultivariateNormal":
        return dist.MultivariateNormal(h[..., :V], scale_tril=lower)
    if name == "LowRankMultivariateNormal":
        return dist.LowRankMultivariateNormal(h[..., :V], h[..., V : 2 * V, None], positive[..., :V])
    mixing = torch.distributions.Categorical(logits=h[..., :2])
    pair = torch.stack([h[..., :V], -h[..., :V]], -2)
    return dist.MixtureSameFamily(mixing, dist.Normal(pair, positive[..., None, :V]).to_event(1))


def marginal_of(name, h, indices):
    """The distribution of some of its variables."""
    fn = family(name, h)
    if name in ("MultivariateNormal", "LowRankMultivariateNormal"):
        some = list(indices)
        return dist.MultivariateNormal(fn.loc[..., some], fn.covariance_matrix[..., some, :][..., some])
    if name == "mixture":
        component = fn.component_distribution.base_dist
        part = dist.Normal(component.loc[..., indices], component.scale[..., indices]).to_event(1)
        return dist.MixtureSameFamily(fn.mixture_distribution, part)
    if name in ATOMS:
        return fn
    names = ("concentration", "rate") if name == "Gamma" else ("loc", "scale")
    return type(fn.base_dist)(*(getattr(fn.base_dist, part)[..., indices] for part in names)).to_event(1)


FAMILIES = ["Gamma", "LogNormal", "Laplace", *ATOMS, "MultivariateNormal", "LowRankMultivariateNormal", "mixture"]


def posterior(name, h):
    fn = family(name, h)
    return {"z": read_site("z", fn, fn.sample() if not fn.has_rsample else fn.rsample().detach())}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_remembered(name):
    """Batch, remembered data that are not in it, and one that is and must not count twice: against a direct sum."""
    torch.manual_seed(0)
    old, new = torch.randn(2, N, V * V, dtype=torch.float64)
    data, memory = torch.arange(N), Memory(6)
    for which in ([0, 1, 2], [3, 4, 5]):
        memory.record(sample_of(posterior(name, old[which]), data[which]), N)
    batch = [5, 6, 7]
    h = torch.cat([new[batch], old[:5]])  # what the references are now
    sites = posterior(name, new[batch])
    z = sites["z"].value.requires_grad_()
    groups = [[0, 1, 2], [0, 2], [1]] if name not in ATOMS else [[0]]
    references = memory.references(sample_of(sites, data[batch]), N)
    found = log_aggregates(sites, [variables(z=some) for some in groups], references)
    for value, some in zip(found, groups, strict=True):
        some = some if name not in ATOMS else [0, 1, 2]
        pairs = marginal_of(name, h, some).log_prob(z[:, None, some])  # [B, M]
        weights = torch.full_like(pairs, (N - 1) / N / (len(h) - 1))
        weights.diagonal().fill_(1 / N)
        expected = (pairs + weights.log()).logsumexp(-1)
        torch.testing.assert_close(value[0], expected)
        # A sample has a gradient through the remembered references too.
        ours, theirs = (torch.autograd.grad(total.sum(), [z], retain_graph=True)[0] for total in (value[0], expected))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_memory_of_every_family_is_kept_in_the_state(name):
    torch.manual_seed(0)
    h, data, memory = torch.randn(N, V * V), torch.arange(N), Memory(N)
    memory.record(sample_of(posterior(name, h), data), N)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    resumed = Memory(N)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    sites = posterior(name, h[:4])
    groups = [variables(z=[0]), variables(z=range(sites["z"].variables))]
    ours, theirs = (
        log_aggregates(sites, groups, either.references(sample_of(sites, data[:4]), N)) for either in (memory, resumed)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_staleness_of_every_family_is_the_divergence_where_it_is_known(name):
    torch.manual_seed(0)
    old, new = torch.randn(2, N, V * V, dtype=torch.float64)
    data, memory = torch.arange(N), Memory(N)
    memory.record(sample_of(posterior(name, old), data), N)
    memory.record(sample_of(posterior(name, new[2:]), data[2:]), N)
    try:
        expected = torch.distributions.kl_divergence(family(name, new), family(name, old))[2:].mean()
    except NotImplementedError:
        expected = torch.tensor(math.nan, dtype=torch.float64)
    torch.testing.assert_close(memory.staleness, expected, equal_nan=True)
    assert memory.staleness.isnan() == (name == "mixture")


@pytest.mark.parametrize("name", FAMILIES[:-1])  # a guide samples no mixture: its samples have no gradient
def test_terms_of_programs_with_a_memory_of_all_data_are_exact(name):
    """A guide that does not change: batches of 3 after an epoch, against the whole in batches."""
    h = torch.randn(N, V * V, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def guide(which):
        torch.manual_seed(int(which[0]))  # the same samples each time
        with pyro.plate("data", len(which)):
            pyro.sample("z", family(name, h[which]))

    def model(which):
        with pyro.plate("data", len(which)):
            z = pyro.sample("z", family(name, 0.5 * h[0]))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=torch.zeros(len(which)).double())

    module = HierarchicalELBO(N, dimension=2.0, marginal=Memory(N))(model, guide)
    batches = torch.arange(N).split(3)
    for which in batches:
        module(which)
        module.step()
    each = [module.terms(which) for which in batches]
    whole = module.aggregate_terms([(which,) for which in batches])
    for term in ("mutual_information", "between", "within", "dimension"):
        torch.testing.assert_close(sum(getattr(terms, term) for terms in each) / 3, getattr(whole, term))


def test_conditional_priors_are_remembered_too():
    """p̂(z) over batch and remembered data, normal and Gamma variables, against a direct sum."""
    torch.manual_seed(0)
    h, c = torch.randn(2, N, 2 * V, dtype=torch.float64)
    data, memory = torch.arange(N), Memory(N)

    def normal(of, value=None):
        fn = dist.Normal(of[..., :V], 0.5 + of[..., V:].sigmoid()).to_event(1)
        return read_site("z", fn, fn.sample() if value is None else value)

    def sample(which):
        posterior = normal(h[which])
        return sample_of({"z": posterior}, data[which], {"z": normal(c[which], posterior.value)})

    for which in data.split(3):
        memory.record(sample(which), N)
    batch = sample(data[:3])
    references = memory.references(batch, N)
    for groups in ([0, 1, 2], [1]):
        group = variables(z=groups)
        given = references.of_priors([batch.priors])
        table = Factorised(batch.priors, batch.posteriors, given, torch.float64)
        (found,) = table.aggregate_of_each([group])
        every = torch.distributions.Normal(c[:, :V], 0.5 + c[:, V:].sigmoid())
        pairs = every.log_prob(batch.posteriors["z"].value[:, None])[..., groups].sum(-1)
        torch.testing.assert_close(found[0], pairs.logsumexp(-1) - math.log(N))
