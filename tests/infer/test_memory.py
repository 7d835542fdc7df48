"""The memory: the same marginal as a direct sum over batch and remembered data, and a state that can be kept."""

import io
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.infer import Full, Memory, Stratified, mixture
from pyro_hfvae.infer import memory as memory_module
from pyro_hfvae.infer.marginals import Bank, Group, Posteriors, expected_log_marginals


def data_set(size, normal, categories, dtype=torch.float64, seed=0):
    """Posteriors of N data, [1, N, ...], and a key for each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(1, size, *shape, generator=generator, dtype=dtype)

    posteriors = Posteriors(
        draw(normal), draw(normal), draw(normal).abs() + 0.1, tuple(draw(k).log_softmax(-1) for k in categories)
    )
    return posteriors, torch.randperm(10 * size, generator=generator)[:size]


def part(posteriors, which):
    fields = (posteriors.value, posteriors.loc, posteriors.scale)
    return Posteriors(*(field[:, which] for field in fields), tuple(mass[:, which] for mass in posteriors.log_mass))


def filled(memory, posteriors, keys, batches, data_size):
    for which in batches:
        memory.record(part(posteriors, which), data_size, keys[which])
    return memory


def by_hand(batch, others, group, data_size):
    """E[log q̂(z_G)] [S, B] over the batch and a list of remembered posteriors, one datum after the other."""
    rows = torch.empty(batch.value.shape[:2], dtype=torch.float64)
    references = [part(batch, [b]) for b in range(batch.value.shape[1])] + others
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
    kept=st.sampled_from([0, 2**21]),
)
def test_against_a_direct_sum(batch, remembered, overlap, normal, categories, surplus, chunk, kept):
    """The first ``overlap`` data of the batch are in the memory too: their old posteriors must not count."""
    overlap = min(overlap, batch, remembered)
    size = batch + remembered - overlap
    if not normal and not categories:
        return
    posteriors, keys = data_set(size + surplus, normal, categories)
    old, _ = data_set(size + surplus, normal, categories, seed=1)
    first = list(range(batch))
    seen = list(range(batch - overlap, batch - overlap + remembered))
    memory = Memory(remembered)
    memory.record(part(old, seen), size + surplus, keys[seen])
    others = [part(old, [index]) for index in seen if index not in first]
    if not others and batch == 1:
        return  # no other datum at all
    inputs = part(posteriors, first)
    leaves = [inputs.value, inputs.loc, inputs.scale, *inputs.log_mass]
    for leaf in leaves:
        leaf.requires_grad_()
    references = memory.references(inputs, size + surplus, keys[first])
    groups = [Group(tuple(range(normal)), tuple(range(len(categories))))]
    groups += [Group((index,)) for index in range(normal)] + [Group((), (v,)) for v in range(len(categories))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "CHUNK_ELEMENTS", chunk)
        patch.setattr(mixture, "KEPT_ELEMENTS", kept)
        found = expected_log_marginals(inputs, groups, references)
        expected = [by_hand(inputs, others, group, size + surplus) for group in groups]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        options = {"allow_unused": True, "materialize_grads": True}
        ours = torch.autograd.grad(sum((0.3 + part).square().sum() for part in found), leaves, **options)
        theirs = torch.autograd.grad(sum((0.3 + part).square().sum() for part in expected), leaves, **options)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("size", [12, 100])
def test_a_memory_of_all_data_is_the_exact_marginal(size):
    """After one epoch of unequal batches, and in any later one: every datum counts once, with weight 1/N."""
    posteriors, keys = data_set(12, 3, [2])
    groups = [Group((0, 1, 2), (0,)), Group((0, 2)), Group((1,))]
    exact = expected_log_marginals(posteriors, groups, Full().references(posteriors, 12))
    memory = filled(Memory(size), posteriors, keys, torch.arange(12).split(5), 12)
    assert len(memory) == 12
    for which in torch.randperm(12, generator=torch.Generator().manual_seed(0)).split(5):
        some = part(posteriors, which)
        found = expected_log_marginals(some, groups, memory.references(some, 12, keys[which]))
        for ours, theirs in zip(found, exact, strict=True):
            torch.testing.assert_close(ours, theirs[:, which], rtol=1e-10, atol=1e-10)
        memory.record(some, 12, keys[which])
        assert len(memory) == 12


def test_an_empty_memory_is_the_papers_estimator():
    posteriors, keys = data_set(6, 2, [3])
    groups = [Group((0, 1), (0,)), Group((1,))]
    ours = expected_log_marginals(posteriors, groups, Memory(9).references(posteriors, 50, keys))
    theirs = expected_log_marginals(posteriors, groups, Stratified().references(posteriors, 50))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_oldest_make_place():
    posteriors, keys = data_set(9, 1, [])
    memory = filled(Memory(4), posteriors, keys, [[0, 1], [2, 3], [0, 4], [5]], 9)
    kept = {int(key) for key in memory._slots["key"]}
    assert kept == {int(key) for key in keys[[0, 3, 4, 5]]} or kept == {int(key) for key in keys[[0, 2, 4, 5]]}


def test_a_batch_larger_than_the_memory_is_kept_in_part():
    posteriors, keys = data_set(9, 1, [])
    assert len(filled(Memory(4), posteriors, keys, [list(range(9))], 9)) == 4


def test_staleness_is_the_divergence_from_what_is_remembered():
    old, keys = data_set(5, 2, [3])
    new, _ = data_set(5, 2, [3], seed=1)
    memory = Memory(5)
    assert math.isnan(memory.staleness)
    memory.record(part(old, [0, 1, 2]), 5, keys[:3])
    assert math.isnan(memory.staleness)
    memory.record(part(new, [1, 2, 3]), 5, keys[1:4])
    normal, masses = torch.distributions.Normal, torch.distributions.Categorical
    kl = torch.distributions.kl_divergence
    expected = kl(normal(new.loc[0], new.scale[0]), normal(old.loc[0], old.scale[0])).sum(-1)
    expected = expected + kl(masses(logits=new.log_mass[0][0]), masses(logits=old.log_mass[0][0]))
    torch.testing.assert_close(memory.staleness, expected[1:3].mean())


def sampled(memory, batch, keys, order, step):
    """What a single variable is set against: every slot's weight, with ``order`` its sorted slots, by hand."""
    present = [int(key) not in {int(k) for k in keys} for key in memory._slots["key"]]
    weights = [0.0] * len(present)
    for rank, slot in enumerate(order):
        tail = rank < memory_module.TAIL or rank >= len(order) - memory_module.TAIL
        if present[slot] and (tail or (rank - memory_module.TAIL - memory._clock) % step == 0):
            weights[slot] = 1.0 if tail else float(step)
    return [weight * sum(present) / sum(weights) for weight in weights]


def test_a_single_variable_is_set_against_a_systematic_sample_that_stands_for_all(monkeypatch):
    monkeypatch.setattr(memory_module, "SYSTEMATIC", 6)
    monkeypatch.setattr(memory_module, "TAIL", 2)
    posteriors, keys = data_set(28, 2, [])
    memory = filled(Memory(28), posteriors, keys, torch.arange(28).split(7), 28)
    seen = [set(), set()]
    for which in [*torch.arange(28).split(7), *torch.arange(28).roll(7).split(7)]:
        some = part(posteriors, which)
        found = expected_log_marginals(some, [Group((0,)), Group((1,))], memory.references(some, 28, keys[which]))
        for variable, row in enumerate(found):
            loc, scale = (memory._slots[name][:, variable].double() for name in ("loc", "scale"))
            weights = sampled(memory, some, keys[which], sorted(range(28), key=loc.tolist().__getitem__), 4)
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
        memory.record(some, 28, keys[which])
    assert [len(slots) for slots in seen] == [28, 28]  # each phase twice, with other data in the batch


def test_the_systematic_sample_is_nearer_to_all_than_1024_at_random():
    """Root mean squared error of log q̂ over samples and steps, of about 400 and of 1,024 references; half would do."""
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(1, 4096, 1, generator=generator, dtype=torch.float64)
    scale = torch.full_like(loc, 0.1)
    noise = torch.randn(1, 4096, 1, generator=generator, dtype=torch.float64)
    posteriors, keys = Posteriors(loc + scale * noise, loc, scale, ()), torch.arange(4096)
    memory = filled(Memory(4096), posteriors, keys, torch.arange(4096).split(512), 4096)
    which = torch.arange(100)
    some = part(posteriors, which)
    errors = []
    for _ in range(5):
        references = memory.references(some, 4096, keys[which])
        bank = references.bank
        assert 256 + 128 <= bank.single.shape[-1] <= 640
        rest = torch.randperm(4096, generator=generator)[:1024]
        weight = math.log(4095 / 4096) - (99 + bank.present[rest].sum()).log()
        fewer = replace(references, bank=Bank(bank.parameters[..., rest], (), bank.present[rest]), other=weight)
        of_all = replace(references, bank=replace(bank, single=None))
        values = [expected_log_marginals(some, [Group((0,))], each)[0] for each in (of_all, references, fewer)]
        errors.append(torch.stack([value - values[0] for value in values[1:]]).square().mean((1, 2)))
        memory.record(some, 4096, keys[which])
    sampled, random = torch.stack(errors).mean(0).sqrt()
    assert sampled < 0.5 * random, (sampled, random)


def test_data_that_come_back_keep_their_place():
    posteriors, keys = data_set(9, 1, [])
    memory = filled(Memory(6), posteriors, keys, [[0, 1, 2], [3, 4, 5]], 9)
    before = memory._slots["key"].clone()
    filled(memory, posteriors, keys, [[4, 2, 0]], 9)
    assert torch.equal(memory._slots["key"], before)
    filled(memory, posteriors, keys, [[8, 0, 7]], 9)  # 1 is the oldest, then 3 and 5
    expected = before.clone()
    expected[before == keys[1]], expected[before == keys[3]] = keys[8], keys[7]
    assert torch.equal(memory._slots["key"], expected)


def test_a_datum_that_is_twice_in_a_batch_and_one_that_the_memory_has_no_room_for():
    posteriors, keys = data_set(9, 1, [])
    memory = filled(Memory(4), posteriors, keys, [[0, 1, 2], [1, 1, 3]], 9)
    assert len(memory) == 4
    filled(memory, posteriors, keys, [[1, 4, 5, 6, 7]], 9)
    assert set(memory._slots["key"].tolist()) == set(keys[[1, 4, 5, 6]].tolist())


@given(
    rows=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.bool, torch.int64]),
)
def test_a_datum_has_the_same_key_in_every_batch_and_another_than_others(rows, shape, dtype):
    data = torch.arange(rows).view(-1, *[1] * len(shape)).expand(rows, *shape).to(dtype)
    keys = Memory().keys(data)
    assert torch.equal(Memory().keys(data.flip(0).contiguous()), keys.flip(0))
    if rows > 1:
        assert torch.equal(Memory().keys(data[1:]), keys[1:])
    assert len(set(keys.tolist())) == len({str(row.tolist()) for row in data})


def test_images_that_differ_in_one_pixel_have_different_keys():
    images = (torch.rand(300, 1, 28, 28, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    other = images.clone()
    other[:, 0, 27, 27] = 1 - other[:, 0, 27, 27]
    assert len(set(Memory().keys(torch.cat([images, other])).tolist())) == 600


def test_the_state_is_kept_and_read_without_pickle(monkeypatch):
    monkeypatch.setattr(memory_module, "SYSTEMATIC", 1)
    monkeypatch.setattr(memory_module, "TAIL", 1)
    monkeypatch.setattr(memory_module, "SORTED", 0)  # an order that lasts, and so must be kept
    posteriors, keys = data_set(12, 2, [3], dtype=torch.float32)
    batches = torch.arange(12).split(5)
    memory = filled(Memory(8), posteriors, keys, batches, 12)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    resumed = Memory(8)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for either in (memory, resumed):
        filled(either, posteriors, keys, batches, 12)
    assert memory.get_extra_state()["clock"] == resumed.get_extra_state()["clock"] == 6
    for name, slot in memory.get_extra_state()["slots"].items():
        torch.testing.assert_close(slot, resumed.get_extra_state()["slots"][name], rtol=0, atol=0, equal_nan=True)
    some = part(posteriors, [0, 7, 3])
    groups = [Group((0, 1), (0,)), Group((0,))]
    ours, theirs = (
        expected_log_marginals(some, groups, either.references(some, 12, keys[[0, 7, 3]]))
        for either in (memory, resumed)
    )
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
    posteriors = Posteriors(value, loc, scale, ())
    (found,) = expected_log_marginals(posteriors, [Group(tuple(range(10)))], Full().references(posteriors, 20))
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
    masses = (3 * torch.randn(1, 300, 5, generator=generator)).log_softmax(-1)
    keys, which = torch.arange(300), torch.arange(40)
    memory = filled(Memory(300), Posteriors(value, loc, spread, (masses,)), keys, [list(range(300))], 300)
    groups = [Group((0, 1, 2, 3), discrete), Group((0, 1)), Group((0, 1), (0,)), Group((2,))]
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [part[:, which].to(dtype).requires_grad_() for part in (value, loc, spread, masses)]
        inputs = Posteriors(*leaves[:3], (leaves[3],))
        found = expected_log_marginals(inputs, groups, memory.references(inputs, 300, keys[which]))
        results.append((found, torch.autograd.grad(sum(part.sum() for part in found), leaves)))
    epsilon = torch.finfo(torch.float32).eps
    (narrow, narrow_gradients), (wide, wide_gradients) = results
    for a, b in zip(narrow, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=4 * epsilon * (1 + b.abs().max().item()))
    size = value.abs().max().item() / (0.5 * scale) ** 2
    for a, b, error in zip(narrow_gradients, wide_gradients, (epsilon * size, 0.0, 0.0), strict=False):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=8 * error + 1e-6 * b.abs().max().item())
    torch.testing.assert_close(narrow_gradients[3].double(), wide_gradients[3], rtol=1e-4, atol=1e-5)


def programs():
    import pyro
    import pyro.distributions as dist

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
    import pyro
    import pyro.distributions as dist

    def guide(x):
        with pyro.plate("data", len(x), subsample_size=8) as chosen:
            pyro.sample("z", dist.Normal(x[chosen], 0.5).to_event(1))

    def model(x):
        with pyro.plate("data", len(x), subsample_size=8) as chosen:
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[chosen])

    elbo = HierarchicalELBO(30, marginal=Memory(30))
    with pytest.raises(ValueError, match="which has 30 rows for a batch of 8; give the batch itself"):
        elbo.differentiable_loss(model, guide, torch.randn(30, 4))


@pytest.mark.parametrize("options", [{}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}])
def test_training_fills_the_memory_and_looking_does_not(options):
    torch.manual_seed(0)
    model, guide = programs()
    x = torch.randn(30, 4)
    elbo = HierarchicalELBO(30, marginal=Memory(20), **options)
    elbo.terms(model, guide, x[:8])
    elbo.loss(model, guide, x[:8])
    elbo.aggregate_terms(model, guide, [(x[:8],)])
    with torch.no_grad():
        elbo.training_terms(model, guide, x[:8])
    assert len(elbo.marginal) == 0
    elbo.differentiable_loss(model, guide, x[:8])
    elbo.training_terms(model, guide, x[8:16])
    assert len(elbo.marginal) == 16
    elbo.differentiable_loss(model, guide, x[:8]).backward()
    assert len(elbo.marginal) == 16  # the same data again
    elbo.differentiable_loss(model, guide, x[16:23]).backward()
    assert len(elbo.marginal) == 20


@pytest.mark.slow
def test_a_batch_of_16384_in_less_than_a_gigabyte():
    """10 + 10 variables, value and gradient; what Python and torch take before is counted too."""
    program = """
import resource, torch
from pyro_hfvae.infer import Stratified
from pyro_hfvae.infer.marginals import Group, Posteriors, expected_log_marginals
torch.set_num_threads(1)
B, D = 16384, 20
parts = [torch.randn(1, B, D).requires_grad_() for _ in range(2)] + [(torch.rand(1, B, D) + .1).requires_grad_()]
posteriors = Posteriors(*parts, ())
groups = [Group(tuple(range(D))), Group(tuple(range(10))), Group(tuple(range(10, 20)))]
groups += [Group((index,)) for index in range(D)]
found = expected_log_marginals(posteriors, groups, Stratified().references(posteriors, 60000))
sum(part.mean() for part in found).backward()
assert all(part.grad.isfinite().all() for part in parts)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    gigabytes = float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
    assert gigabytes < 1.0


def test_only_an_estimator_that_records_is_given_the_posteriors():
    class Recorder(Stratified):
        def record(self, posteriors, data_size, keys=None):
            raise AssertionError

    assert [marginal.remembers for marginal in (Stratified(), Memory(5), Recorder())] == [False, True, True]
