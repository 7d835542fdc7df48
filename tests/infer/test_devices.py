"""Nothing is made on a device or in a type of its own: what finds such mistakes without a GPU, and with one."""

import sys

import pytest
import torch
from aggregates import Group, draw_batch, estimated, sample_of
from mixed_programs import Guide, K, Model, V
from torch.overrides import TorchFunctionMode

from pyro_hfvae import HierarchicalELBO, infer
from pyro_hfvae.infer import Memory, Minibatch, MinibatchWeighted
from pyro_hfvae.infer.penalties import ZhaoKernel

N, B = 12, 5

MAKERS = (torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones, torch.rand, torch.randint)
MAKERS += (torch.randn, torch.randperm, torch.tensor, torch.as_tensor, torch.tril_indices, torch.zeros)


class Elsewhere(TorchFunctionMode):
    """Refuses what the library makes on no named device, as if the data were on a GPU.

    A number (no dimension) goes with tensors of any device, and a random stream of its own is drawn from on its device
    before the result is moved.
    """

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = named or {}
        made = function(*arguments, **named)
        if function in MAKERS and made.dim() > 0 and not {"device", "generator"} & named.keys():
            frame = sys._getframe(1)
            while "/torch/" in frame.f_code.co_filename:
                frame = frame.f_back
            path = frame.f_code.co_filename
            if "/pyro_hfvae/" in path:
                raise AssertionError(f"torch.{function.__name__} without a device in {path}:{frame.f_lineno}")
        return made


OBJECTIVES = {
    "VAE": lambda: infer.VAE(N),
    "BetaVAE": lambda: infer.BetaVAE(N, 4.0),
    "AnnealedVAE": lambda: infer.AnnealedVAE(N, gamma=7.0, capacity=3.0),
    "BetaTCVAE": lambda: infer.BetaTCVAE(N, 6.0),
    "FactorVAE": lambda: infer.FactorVAE(N, gamma=3.0, hidden=[7, 5]),
    "InfoVAE": lambda: infer.InfoVAE(N, mmd=50.0, alpha=0.3),
    "MMD-VAE": lambda: infer.InfoVAE(N, mmd=50.0, kernel=ZhaoKernel()),
    "DIPVAEI": lambda: infer.DIPVAEI(N, off_diagonal=3.0, diagonal=5.0),
    "DIPVAEII": lambda: infer.DIPVAEII(N, off_diagonal=3.0, diagonal=5.0),
    "JointVAE": lambda: infer.JointVAE(N, gamma=3.0, capacity={"z": 3.0, "y": 1.0}),
    "HFVAE": lambda: infer.HFVAE(N, between=4.0, within=2.0),
    "particles": lambda: HierarchicalELBO(N, num_particles=2, vectorize_particles=True, max_plate_nesting=1),
    "MinibatchWeighted": lambda: HierarchicalELBO(N, between=2.0, marginal=MinibatchWeighted()),
    "Memory": lambda: HierarchicalELBO(N, between=2.0, marginal=Memory(N)),
}
CASES = [(name, {}) for name in OBJECTIVES]
CASES += [("HFVAE", {"relaxed": False}), ("HFVAE", {"structured": True}), ("Memory", {"relaxed": False})]


def train(name, options, dtype, device):
    """Three steps, the terms and the exact terms; all results."""
    torch.manual_seed(0)
    model, guide = (program(**options).to(device, dtype) for program in (Model, Guide))
    module = OBJECTIVES[name]()(model, guide).to(device)
    x = torch.randn(N, 6, device=device, dtype=dtype)
    for step in range(3):
        module(x[step * 3 : step * 3 + B]).backward()
        module.step()
    terms = [module.terms(x[:B]), module.aggregate_terms([(x[:B],), (x[B:],)])]
    found = [value for each in terms for value in each.scalars().values()]
    return found, [p.grad for program in (model, guide) for p in program.parameters() if p.grad is not None]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_made_without_a_device_and_all_is_of_the_programs_type(name, options, dtype):
    with Elsewhere():
        terms, gradients = train(name, options, dtype, "cpu")
    assert {value.dtype for value in terms} == {gradient.dtype for gradient in gradients} == {dtype}


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch.cuda.is_available() is False here")
def test_on_a_gpu(name, options):
    terms, gradients = train(name, options, torch.float32, "cuda")
    assert {value.device.type for value in terms} == {gradient.device.type for gradient in gradients} == {"cuda"}
    assert all(value.isfinite().all() for value in [*terms, *gradients])


@pytest.mark.parametrize("marginal", [Minibatch, Memory])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch.cuda.is_available() is False here")
def test_the_sums_on_a_gpu_are_those_on_the_processor(marginal):
    """float64 on both sides, so that they differ by the order of sums only."""
    posteriors = draw_batch(1, 40, V, [K])
    groups = [Group((0, 1, 2), (0,)), Group((0, 1)), Group((2,)), Group((), (0,))]
    found = []
    for device in ("cpu", "cuda"):
        every = posteriors.map(lambda part, device=device: part.to(device))
        data, estimator = torch.arange(40, device=device), marginal()
        for which in torch.arange(40, device=device).split(10) if marginal is Memory else []:
            estimator.record(sample_of(every[which], data[which]), 40)
        batch = every[slice(8)].leaf()
        values = estimated(estimator, batch, groups, 40, data[:8])
        found.append([*values, *torch.autograd.grad(sum(v.sum() for v in values), batch.leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), rtol=1e-9, atol=1e-9)
