"""Every shipped pair of programs through the same properties."""

import copy
import math

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.guides import ConvEncoder, ImageGuide, MLPEncoder, StructuredGuide, SubpixelEncoder
from pyro_hfvae.models import (
    ConvDecoder,
    CorrelatedModel,
    HierarchicalModel,
    ImageModel,
    MixtureModel,
    MLPDecoder,
    SpatialBroadcastDecoder,
    SubpixelDecoder,
)

LAYOUTS = {
    "one block": ({"z": 5}, {}),
    "several blocks": ({"pose": 3, "style": 2}, {"shape": 3, "colour": 4}),
    "discrete only": ({}, {"shape": 3, "colour": 4}),
    "normal only": ({"pose": 3, "style": 1}, {}),
}


def mixture(gaussian, discrete, decoder):
    return MixtureModel(gaussian, discrete, {"pose": "shape", "style": "colour"}, decoder)


def structured(gaussian, discrete, encoder):
    return StructuredGuide(gaussian, discrete, {"pose": "shape", "style": "colour"}, encoder)


MODELS = {
    "image": (ImageModel, LAYOUTS),
    "mixture": (mixture, ["several blocks"]),
    "hierarchy": (HierarchicalModel, ["one block", "several blocks", "normal only"]),
    "correlated": (CorrelatedModel, ["one block", "several blocks", "normal only"]),
    "image, structured guide": (ImageModel, ["several blocks"]),
    "mixture, structured guide": (mixture, ["several blocks"]),
}


def conv(latent_size):
    return ConvDecoder(latent_size, width=4, hidden=16)


def subpixel(latent_size):
    return SubpixelDecoder(latent_size, width=4, hidden=16)


def broadcast(latent_size):
    return SpatialBroadcastDecoder(latent_size, width=4, depth=2)


def mlp(latent_size):
    return MLPDecoder(latent_size, hidden=(20, 30))


NETWORKS = {
    "conv": (64, conv, lambda: ConvEncoder(width=4, hidden=16)),
    "subpixel": (64, subpixel, lambda: SubpixelEncoder(width=4, hidden=16)),
    "broadcast": (64, broadcast, lambda: SubpixelEncoder(width=4, hidden=16)),
    "mlp": (28, mlp, lambda: MLPEncoder(hidden=(30, 20))),
}


@pytest.fixture
def local_params():
    """Pyro's setting ``module_local_params``: False, its default; tests parametrise it to have the other."""
    return False


@pytest.fixture(autouse=True)
def _fresh(local_params):
    pyro.clear_param_store()
    torch.manual_seed(0)
    with pyro.settings.context(module_local_params=local_params):
        yield


CASES = [
    (model, layout, network)
    for model, (_, layouts) in MODELS.items()
    for layout in layouts
    for network in NETWORKS
    if model == "image" or network == "mlp"
]


@pytest.fixture(params=CASES, ids=" ".join)
def pair(request, _fresh):
    """Model, guide and images."""
    return make(*request.param)


def make(program, layout, network, size=6):
    side, decoder, encoder = NETWORKS[network]
    gaussian, discrete = LAYOUTS[layout]
    images = (torch.rand(size, 1, side, side) > 0.7).float()
    guide = structured if "structured" in program else ImageGuide
    return MODELS[program][0](gaussian, discrete, decoder), guide(gaussian, discrete, encoder), images


def weighted():
    """Weights that are all different: no term can stand in for another."""
    return HierarchicalELBO(data_size=100, mutual_information=0.5, between=3.0, within=2.0, dimension=1.5)


def parameters(*modules):
    return {f"{place}.{name}": p for place, module in enumerate(modules) for name, p in module.named_parameters()}


def test_sites_and_shapes(pair):
    model, guide, x = pair
    guide_trace = poutine.trace(guide).get_trace(x)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
    sizes = {**model.latents.gaussian, **model.latents.discrete}
    for name, size in sizes.items():
        for trace in (guide_trace, model_trace):
            assert trace.nodes[name]["fn"].batch_shape == (6,)
            assert trace.nodes[name]["fn"].event_shape == (size,)
            assert trace.nodes[name]["value"].shape == (6, size)
    assert {name for name, site in guide_trace.nodes.items() if site["type"] == "sample"} == {*sizes, "data"}
    assert model_trace.nodes["x"]["is_observed"]
    assert model_trace.nodes["x"]["fn"].event_shape == x.shape[1:]
    assert model_trace.nodes["x"]["fn"].mean.shape == x.shape


def test_the_target_is_observed_and_the_guide_does_not_see_it(pair):
    model, guide, x = pair
    target = 1 - x
    traces = {}
    for name, arguments in {"x": (x,), "target": (x, target)}.items():
        torch.manual_seed(0)
        guide_trace = poutine.trace(guide).get_trace(*arguments)
        traces[name] = guide_trace, poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*arguments)
    for site in (*model.latents.gaussian, *model.latents.discrete):
        assert traces["x"][0].nodes[site]["value"].equal(traces["target"][0].nodes[site]["value"])
    assert traces["x"][1].nodes["x"]["value"] is x
    assert traces["target"][1].nodes["x"]["value"] is target
    logits = traces["target"][1].nodes["x"]["fn"].base_dist.logits
    assert logits.equal(traces["x"][1].nodes["x"]["fn"].base_dist.logits)


def test_terms_are_finite_and_named(pair):
    model, guide, x = pair
    terms = weighted().terms(model, guide, x)
    assert all(value.isfinite() and value.shape == () for value in terms.scalars().values())
    sites = [*model.latents.gaussian, *model.latents.discrete]
    assert list(terms.blocks) == [name for name in poutine.trace(guide).get_trace(x).nodes if name in sites]
    assert terms.reconstruction < 0


@pytest.mark.parametrize("local_params", [True, False])
def test_every_parameter_gets_a_gradient_and_moves(pair, local_params):
    """As a torch module under a torch optimiser, the main way."""
    model, guide, x = pair
    loss = weighted()(model, guide)
    assert set(loss.parameters()) == {*model.parameters(), *guide.parameters()}
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in parameters(model, guide).items()}
    loss(x).backward()
    for name, parameter in parameters(model, guide).items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    optimizer.step()
    for name, parameter in parameters(model, guide).items():
        assert (parameter != before[name]).any(), name


def test_every_parameter_moves_under_svi(pair):
    """Plain Pyro, with its settings as they are by default."""
    model, guide, x = pair
    before = {name: p.detach().clone() for name, p in parameters(model, guide).items()}
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), loss=weighted())
    assert all(math.isfinite(svi.step(x)) for _ in range(2))
    for name, parameter in parameters(model, guide).items():
        assert (parameter != before[name]).any(), name


def test_training_raises_the_objective(pair):
    model, guide, x = pair
    elbo = weighted()
    optimizer = torch.optim.Adam([*model.parameters(), *guide.parameters()], lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = elbo.differentiable_loss(model, guide, x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


def test_batch_of_two(pair):
    model, guide, x = pair
    terms = weighted().terms(model, guide, x[:2])
    assert all(value.isfinite() for value in terms.scalars().values())


def test_double_precision(pair):
    model, guide, x = (part.double() for part in pair)
    terms = weighted().terms(model, guide, x)
    assert all(value.dtype == torch.float64 and value.isfinite() for value in terms.scalars().values())


def test_grey_images(pair):
    """A grey pixel is a probability: the log-likelihood is the cross-entropy, with validation on and off."""
    model, guide, x = pair
    grey = torch.rand_like(x)
    trace = poutine.trace(model).get_trace(grey)
    logits = trace.nodes["x"]["fn"].base_dist.logits
    trace.compute_log_prob()
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(logits, grey, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected)
    for enabled in (True, False):
        with pyro.validation_enabled(enabled):
            assert weighted().terms(model, guide, grey).elbo.isfinite()


PROGRAMS_WITH_SCALE = {
    "image": lambda scale: ImageModel({"pose": 3}, {"shape": 3}, mlp, scale=scale),
    "mixture": lambda scale: MixtureModel({"pose": 3}, {"shape": 3}, {"pose": "shape"}, mlp, scale=scale),
    "hierarchy": lambda scale: HierarchicalModel({"pose": 3}, {"shape": 3}, mlp, scale=scale),
    "correlated": lambda scale: CorrelatedModel({"pose": 3}, {"shape": 3}, mlp, scale=scale),
}


@pytest.mark.parametrize("program", PROGRAMS_WITH_SCALE)
def test_normal_pixels(program):
    """With a scale the log-likelihood is the squared error over twice its square, and the constant."""
    scale, x = 0.1, torch.rand(4, 1, 28, 28)
    torch.manual_seed(0)
    trace = poutine.trace(PROGRAMS_WITH_SCALE[program](scale)).get_trace(x)
    trace.compute_log_prob()
    torch.manual_seed(0)
    grey = poutine.trace(PROGRAMS_WITH_SCALE[program](None)).get_trace(x).nodes["x"]["fn"].mean
    expected = -((x - grey) ** 2).sum((1, 2, 3)) / (2 * scale**2) - 784 * math.log(scale * math.sqrt(2 * math.pi))
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("program", PROGRAMS_WITH_SCALE)
def test_the_scale_of_pixels_must_be_above_0(program, scale):
    with pytest.raises(ValueError, match=f"the scale of the pixels must be above 0 and finite, got {scale}"):
        PROGRAMS_WITH_SCALE[program](scale)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_vectorised_particles(case):
    """As particles one by one, up to the samples; where no site is discrete, the ordinary ELBO to rounding."""
    model, guide, x = (part.double() for part in make(*case))
    particles = {"num_particles": 3, "max_plate_nesting": 1}
    one_by_one = HierarchicalELBO(100, **particles).loss(model, guide, x)
    torch.manual_seed(1)
    ours = HierarchicalELBO(100, **particles, vectorize_particles=True).differentiable_loss(model, guide, x)
    if not model.latents.discrete:
        torch.manual_seed(1)
        theirs = Trace_ELBO(**particles, vectorize_particles=True).differentiable_loss(model, guide, x)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert ours.item() == pytest.approx(one_by_one, rel=0.1)
    ours.backward()
    assert all(p.grad is not None and p.grad.any() for p in parameters(model, guide).values())


def test_decoders_keep_leading_dimensions():
    for decoder, side in ((conv(5), 64), (mlp(5), 28)):
        z = torch.randn(3, 2, 5)
        images = decoder(z)
        assert images.shape == (3, 2, 1, side, side)
        torch.testing.assert_close(images[1], decoder(z[1]))


@pytest.mark.parametrize(("size", "channels"), [(16, [2, 8, 8]), (32, [2, 4, 8, 8]), (64, [2, 4, 4, 8, 8])])
def test_convolutions_end_at_four_by_four(size, channels):
    encoder = ConvEncoder(channels=2, width=4, hidden=5, size=size)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, torch.nn.Conv2d)]
    assert [c.in_channels for c in convolutions] + [convolutions[-1].out_channels] == channels
    before_dense = torch.nn.Sequential(*list(encoder.layers)[:-3])
    assert before_dense(torch.rand(3, 2, size, size)).shape == (3, 8, 4, 4)
    assert encoder(torch.rand(3, 2, size, size)).shape == (3, 5) == (3, encoder.features)


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-3])
def test_a_guide_that_starts_alike_for_all_images(scale):
    """With a scale of 1 it starts from the prior; every parameter moves all the same."""
    gaussian, discrete = {"pose": 3, "size": 1}, {"shape": 4}
    guide = ImageGuide(gaussian, discrete, NETWORKS["mlp"][2], initial_scale=scale)
    model, x = ImageModel(gaussian, discrete, mlp), torch.rand(6, 1, 28, 28)
    nodes = poutine.trace(guide).get_trace(x).nodes
    for name in gaussian:
        fn = nodes[name]["fn"].base_dist
        assert not fn.loc.any()
        torch.testing.assert_close(fn.scale, torch.full_like(fn.scale, scale), rtol=1e-4, atol=0)  # float32
    torch.testing.assert_close(nodes["shape"]["fn"].logits.exp(), torch.full((6, 4), 0.25))
    before = {name: p.detach().clone() for name, p in guide.named_parameters()}
    loss = weighted()(model, guide)
    optimizer = torch.optim.Adam(guide.parameters(), 1e-3)
    for _ in range(2):  # the encoder's gradient is 0 until the heads have moved
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    assert all((p != before[name]).any() for name, p in guide.named_parameters())


def test_a_guide_whose_scales_alone_start_alike():
    gaussian, discrete = {"pose": 3, "size": 1}, {"shape": 4}
    guides = []
    for options in ({"initial_scale": 0.1, "random_means": True}, {}):
        torch.manual_seed(0)
        guides.append(ImageGuide(gaussian, discrete, NETWORKS["mlp"][2], **options))
    x = torch.rand(6, 1, 28, 28)
    narrow, plain = (poutine.trace(guide).get_trace(x).nodes for guide in guides)
    for name in gaussian:
        fn = narrow[name]["fn"].base_dist
        assert fn.loc.equal(plain[name]["fn"].base_dist.loc)
        assert (fn.loc.std(0) > 0).all()
        torch.testing.assert_close(fn.scale, torch.full_like(fn.scale, 0.1), rtol=1e-4, atol=0)  # float32
    torch.testing.assert_close(narrow["shape"]["fn"].logits, (10 * plain["shape"]["fn"].logits).log_softmax(-1))
    with pytest.raises(ValueError, match="^random_means is for an initial_scale; without one, all is random$"):
        ImageGuide(gaussian, discrete, NETWORKS["mlp"][2], random_means=True)


def test_kaiming_weights_keep_the_size_of_what_they_are_given():
    torch.manual_seed(0)
    x = torch.randn(256, 1, 64, 64)  # mean square 1, and of the features too, less what the zeros at the borders take
    kept, shrunk = (float(SubpixelEncoder(1, 16, 256, kaiming=k)(x).square().mean()) for k in (True, False))
    assert 0.4 < kept < 1.5
    assert shrunk < 0.002  # four layers of a sixth each leave .0008


@pytest.mark.parametrize("scale", [0.0, 1e-4, -1.0, float("inf"), float("nan")])
def test_an_initial_scale_that_is_none(scale):
    with pytest.raises(ValueError, match=rf"^initial_scale must be above 0.0001 and finite, got {scale}$"):
        ImageGuide({"z": 2}, {}, NETWORKS["mlp"][2], initial_scale=scale)


def test_networks_of_other_sizes():
    x = torch.rand(4, 3, 10, 12)
    model = ImageModel({"z": 2}, {"y": 3}, lambda size: MLPDecoder(size, (3, 10, 12), ()))
    guide = ImageGuide({"z": 2}, {"y": 3}, lambda: MLPEncoder((3, 10, 12), (7,)))
    assert weighted().terms(model, guide, x).elbo.isfinite()
    colour = torch.rand(4, 3, 64, 64)
    assert ConvEncoder(channels=3)(colour).shape == (4, 256)
    assert ConvDecoder(5, channels=3)(torch.randn(4, 5)).shape == colour.shape
    assert SubpixelEncoder(channels=3)(colour).shape == (4, 256)
    for decoder in (SubpixelDecoder, SpatialBroadcastDecoder):
        assert decoder(5, channels=3)(torch.randn(4, 5)).shape == colour.shape


def test_temperature_is_set_in_place_and_saved():
    model, guide, x = make("image", "discrete only", "mlp")
    sharpness = []
    for temperature in (2.0, 0.3):
        for program in (model, guide):
            program.temperature.fill_(temperature)
            assert next(v for k, v in program.state_dict().items() if k.endswith("temperature")) == temperature
        torch.manual_seed(0)
        node = poutine.trace(guide).get_trace(x).nodes["shape"]
        assert node["fn"].temperature == temperature
        assert poutine.trace(model).get_trace(x).nodes["shape"]["fn"].temperature == temperature
        sharpness.append(node["value"].max(-1).values.mean())
    assert sharpness[0] < sharpness[1]
    other = make("image", "discrete only", "mlp")[1]
    other.load_state_dict(guide.state_dict())
    assert other.temperature == torch.tensor(0.3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(("program", "network"), [(ImageModel, mlp), (ImageGuide, NETWORKS["mlp"][2])])
def test_temperature_must_be_above_0(program, network, temperature):
    with pytest.raises(ValueError, match=f"the temperature must be above 0 and finite, got {temperature}"):
        program({}, {"y": 2}, network, temperature=temperature)


def test_prior_is_standard_and_uniform():
    model, _, x = make("image", "several blocks", "mlp")
    trace = poutine.trace(model).get_trace(x)
    pose, shape = trace.nodes["pose"]["fn"].base_dist, trace.nodes["shape"]["fn"]
    assert pose.loc.eq(0).all()
    assert pose.scale.eq(1).all()
    torch.testing.assert_close(shape.probs, torch.full((6, 3), 1 / 3))


def test_the_structured_guide_reads_categories():
    """z has the moments of the category of y, whatever the relaxed sample is; the other sites have the image alone."""
    _, _, x = make("image", "several blocks", "mlp")
    guide = StructuredGuide({"pose": 3, "style": 2}, {"shape": 3, "colour": 4}, {"pose": "shape"}, MLPEncoder)

    def loc(name, shape):
        trace = poutine.trace(poutine.condition(guide, data={"shape": torch.tensor(shape).expand(6, 3)})).get_trace(x)
        return trace.nodes[name]["fn"].base_dist.loc

    assert (loc("pose", [0.5, 0.3, 0.2]) == loc("pose", [1.0, 0.0, 0.0])).all()
    assert (loc("pose", [0.5, 0.3, 0.2]) != loc("pose", [0.2, 0.3, 0.5])).all()
    assert (loc("style", [0.5, 0.3, 0.2]) == loc("style", [0.2, 0.3, 0.5])).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": "y"}, "'given' names 'x', which is no Gaussian site; those are: z"),
        ({"z": "z"}, "'given' names 'z', which is no discrete site; those are: y"),
    ],
)
def test_a_structured_guide_of_sites_that_are_not_there(given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        StructuredGuide({"z": 2}, {"y": 3}, given, MLPEncoder)


def test_posterior_scale_never_underflows():
    _, guide, x = make("image", "one block", "mlp")
    with torch.no_grad():
        guide.gaussian["z"].bias.fill_(-1e4)
    assert poutine.trace(guide).get_trace(x).nodes["z"]["fn"].base_dist.scale.min() >= 1e-4


def test_a_broadcast_decoder_gives_each_place_the_latents_and_its_position():
    decoder = SpatialBroadcastDecoder(3, channels=2, width=5, depth=1).double()
    z = torch.randn(4, 3, dtype=torch.float64)
    first = torch.cat([decoder.of_latents.weight, decoder.of_positions.weight[..., 0, 0]], 1)  # [5, 3 + 2]
    axis = torch.linspace(-1, 1, 16)
    place = torch.tensor([axis[7], axis[11]], dtype=torch.float64).expand(4, 2)
    centre = torch.cat([z, place], 1) @ first.T + decoder.of_latents.bias
    last = decoder.layers[-2]
    assert decoder(z).shape == (4, 2, 64, 64)
    with torch.no_grad():  # looks at the centre of the last convolution alone
        last.weight[..., [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0.0
    expected = centre.relu() @ last.weight[:, :, 1, 1].T + last.bias  # [4, 2 · 16]
    torch.testing.assert_close(decoder(z)[:, :, 28:32, 44:48].flatten(1), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precisions(pair, dtype):
    """Programs run forwards and backwards, and the model's density is that of float64 but for the type's rounding."""
    model, guide, x = (part.to(dtype) for part in pair)
    poutine.trace(model).get_trace(x)
    of_guide = poutine.trace(guide).get_trace(x)
    of_model = poutine.trace(poutine.replay(model, trace=of_guide)).get_trace(x)
    found = of_model.log_prob_sum()
    (found - of_guide.log_prob_sum()).backward()
    for program in (model, guide):
        for name, parameter in program.named_parameters():
            assert parameter.dtype == dtype, name
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
    pyro.clear_param_store()
    wide = copy.deepcopy(model).double()
    latents = {name: of_guide.nodes[name]["value"].detach().double() for name in of_guide.stochastic_nodes}
    data = {
        name: value / value.sum(-1, keepdim=True)
        if name in model.latents.discrete
        else value  # of float32, to float64's 1
        for name, value in latents.items()
        if name != "data"
    }
    expected = poutine.trace(poutine.condition(wide, data=data)).get_trace(x.double()).log_prob_sum()
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)  # a bfloat16 has 8 bits


@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "hierarchy"], ids=" ".join)
def test_objective_in_bfloat16(case):
    model, guide, x = (part.bfloat16() for part in make(*case))
    loss = HierarchicalELBO(50)(model, guide)(x)
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("integer", [np.int64, np.uint8, lambda n: torch.tensor(n)], ids=["int64", "uint8", "tensor"])
@pytest.mark.parametrize("number", [np.float32, np.float64, np.array, torch.tensor])
def test_sizes_and_settings_as_numbers_of_numpy_and_torch(integer, number):
    i = integer
    gaussian, discrete = {"z": i(2), "w": i(2)}, {"y": i(3)}
    given, settings = {"z": "y"}, {"temperature": number(0.5), "scale": number(0.25)}
    x = torch.rand(4, 1, 16, 16)

    def decoder(size):
        return MLPDecoder(size, (i(1), i(16), i(16)), (i(5),))

    def encoder():
        return ConvEncoder(i(1), i(2), i(5), i(16))

    for model in (
        ImageModel(gaussian, discrete, decoder, **settings),
        MixtureModel(gaussian, discrete, given, decoder, **settings),
        HierarchicalModel(gaussian, discrete, decoder, hidden=i(4), **settings),
        CorrelatedModel(gaussian, discrete, decoder, **settings),
    ):
        assert (model.observation.scale, model.temperature.dtype) == (0.25, torch.float32)
        model(x)
    ImageGuide(gaussian, discrete, encoder, number(0.5), initial_scale=number(0.1))(x)
    StructuredGuide(gaussian, discrete, given, encoder, number(0.5), hidden=i(4))(x)


@pytest.mark.parametrize("kind", [np.array, list, tuple, torch.tensor])
def test_networks_of_numbers_of_numpy(kind):
    n = np.int64
    assert MLPEncoder(kind([1, 4, 6]), kind([5, 3]))(torch.zeros(2, 1, 4, 6)).shape == (2, 3)
    assert MLPDecoder(n(2), kind([1, 4, 6]), kind([5, 3]))(torch.zeros(2, 2)).shape == (2, 1, 4, 6)
    assert SubpixelEncoder(n(1), n(2), n(5))(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    for decoder in (ConvDecoder, SubpixelDecoder):
        assert decoder(n(2), n(1), n(2), n(5))(torch.zeros(2, 2)).shape == (2, 1, 64, 64)
    assert SpatialBroadcastDecoder(n(2), n(1), n(2), n(2))(torch.zeros(2, 2)).shape == (2, 1, 64, 64)


def test_sizes_that_are_no_integers_are_not_rounded():
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        ImageModel({"z": 2.5}, {}, mlp)
