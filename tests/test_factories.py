"""Networks made from what a program is given, with the sizes that their signature takes."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from any_data import COLUMNS, Given, data_of
from torch import nn

from pyro_hfvae.covariates import covariate_widths, join_covariates, widths_of
from pyro_hfvae.factories import make, sizes_of
from pyro_hfvae.models import DenseDecoder, StructuredModel
from pyro_hfvae.train.configuration import build_fit_parser


class Net(nn.Module):
    """What it was made with."""

    def __init__(self, latent_size, channels=None, *, size=64, hidden=5):
        super().__init__()
        self.made = {"latent_size": latent_size, "channels": channels, "size": size, "hidden": hidden}


class Anything(nn.Module):
    def __init__(self, *args, **options):
        super().__init__()
        self.made = args, options


KNOWN = {"channels": 3, "size": (8, 9), "outputs": 4, "latent_size": 99}


def made(latent_size=2, channels=None, size=64, hidden=5):
    return {"latent_size": latent_size, "channels": channels, "size": size, "hidden": hidden}


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (Net, made(2, 3, (8, 9))),
        (lambda size: Net(size), made(2)),
        (lambda size, channels: Net(size, channels), made(2, 3)),
        (lambda latent_size, **options: Net(latent_size, **options), made(2)),
        (partial(Net, hidden=7), made(2, 3, (8, 9), 7)),
        (partial(Net, channels=1), made(2, 1, (8, 9))),
        (partial(Net, channels=None, size=None), made(2, 3, (8, 9))),
        (partial(partial(Net, size=16), hidden=7), made(2, 3, 16, 7)),
    ],
)
def test_a_factory_gets_what_it_takes_and_was_not_given(factory, expected):
    assert make(factory, 2, **KNOWN).made == expected


def test_arguments_by_position_are_given():
    assert make(Net, 2, 1, size=16, channels=3).made == made(2, 1, 16)
    assert make(partial(Net, 5), channels=3).made == made(5, 3)
    assert make(Anything, 2, channels=3).made == ((2,), {})
    assert make(dict, [("a", 1)], channels=3) == {"a": 1}  # without a signature


class Typed(Net):
    """With the types that an option needs."""

    def __init__(self, latent_size: int, channels: int | None = None, size: int = 64, hidden: int = 5):
        super().__init__(latent_size, channels, size=size, hidden=hidden)


class Program(nn.Module):
    """A program with a decoder."""

    def __init__(self, decoder: Callable[[int], nn.Module] = Typed):
        super().__init__()
        self.decoder = make(decoder, 2, **KNOWN)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], made(2, 3, 64)),
        (["--model.decoder", f"{__name__}.Typed"], made(2, 3, 64)),
        (["--model.decoder", f"{__name__}.Typed", "--model.decoder.hidden", "7"], made(2, 3, 64, 7)),
        (["--model.decoder", f"{__name__}.Typed", "--model.decoder.channels", "1"], made(2, 1, 64)),
    ],
)
def test_factories_of_a_configuration(options, expected):
    """The parser of ``fit`` makes partials that have every default, of which None is left open."""
    needed = ["--run", "r", "--data", "pyro_hfvae.data.DSprites", "--guide", "torch.nn.Identity"]
    parser = build_fit_parser()
    built = parser.instantiate(parser.parse_args([*needed, "--model", f"{__name__}.Program", *options]))
    assert built.model.decoder.made == expected


CONFIGURATION = """
run: r
data: pyro_hfvae.data.DSprites
guide: torch.nn.Identity
model:
  class_path: pyro_hfvae.models.StructuredModel
  init_args:
    latents:
      class_path: pyro_hfvae.models.Mixture
      init_args: {gaussian: {z: 2}, discrete: {y: 3}, given: {z: y}}
    observation:
      class_path: pyro_hfvae.models.Pixels
      init_args:
        scale: 0.1
        decoder: {class_path: pyro_hfvae.models.MLPDecoder, init_args: {image_shape: [1, 5, 4], hidden: [6]}}
"""


def test_a_configuration_composes_a_model():
    parser = build_fit_parser()
    model = parser.instantiate(parser.parse_string(CONFIGURATION)).model
    assert isinstance(model, StructuredModel)
    assert model.observation.widths == {"z": 2, "y": 3}
    assert model.observation.decoder(torch.zeros(2, 5)).shape == (2, 1, 5, 4)


def test_the_sizes_of_data_of_every_kind():
    batch = {"covariates": {"batch": 2}}
    images = {"channels": 2, "size": (3, 4), "image_shape": (2, 3, 4)}
    assert sizes_of(None) == {}
    assert sizes_of(data_of("pixels")) == batch | images
    assert sizes_of(data_of("columns")) == batch | {"columns": COLUMNS}
    assert sizes_of(data_of("genes")) == {"covariates": {"library": 1, "batch": 2}, "inputs": 5}
    assert sizes_of(data_of("series")) == {"covariates": {"lengths": 1, "batch": 2}, "length": 4, "inputs": 3}


def test_covariates_are_joined_in_the_order_asked_for():
    data = Given(torch.zeros(3, 2), age=torch.tensor([4, 5, 6]), place=torch.arange(12.0).reshape(3, 2, 2))
    widths = widths_of(["place", "age"], covariate_widths(data))
    assert widths == {"place": 4, "age": 1}
    joined = join_covariates(widths, data.batch([2]).others, torch.zeros((), dtype=torch.float64))
    assert joined.tolist() == [[8.0, 9.0, 10.0, 11.0, 6.0]]
    assert joined.dtype == torch.float64


def test_covariates_that_are_not_there():
    with pytest.raises(ValueError, match="^the data have no covariate 'x'; they have: age$"):
        widths_of(["x"], {"age": 1})
    with pytest.raises(ValueError, match="^given must be a list of covariates, got 'age'$"):
        widths_of("age", {"age": 1})
    with pytest.raises(ValueError, match="^the program needs the covariate 'age', got: none$"):
        join_covariates({"age": 1}, {}, torch.zeros(()))
    with pytest.raises(ValueError, match="^the covariate 'age' has 2 entries for each datum, expected 1$"):
        join_covariates({"age": 1}, {"age": torch.zeros(3, 2)}, torch.zeros(()))


@pytest.mark.parametrize("hidden", [(), (5,), (5, 6)])
def test_a_dense_decoder_keeps_leading_dimensions(hidden):
    z = torch.randn(3, 2, 4)
    for decoder, shape in ((DenseDecoder(4, 6, hidden), (6,)), (DenseDecoder(4, 6, hidden, length=5), (5, 6))):
        assert decoder(z).shape == (3, 2, *shape)
        torch.testing.assert_close(decoder(z)[1], decoder(z[1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a DenseDecoder needs 1 output or more, got None"),
        ({"outputs": 0}, "a DenseDecoder needs 1 output or more, got 0"),
        ({"outputs": 2, "length": 0}, "length must be 1 or more, got 0"),
        ({"outputs": 2, "hidden": (3, 0)}, r"each layer of hidden must have 1 unit or more, got \[3, 0\]"),
    ],
)
def test_dense_decoders_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DenseDecoder(4, **options)
