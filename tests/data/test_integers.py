"""Indices and labels as users have them."""

import numpy as np
import pytest
import torch

from pyro_hfvae.data import DSprites, ImageFile, IndexBatches, render
from pyro_hfvae.data.integers import as_integers

KINDS = {
    "tensor": torch.tensor,
    "int32 tensor": lambda values: torch.tensor(values, dtype=torch.int32),
    "uint8 tensor": lambda values: torch.tensor(values, dtype=torch.uint8),  # torch indexes by it as by a mask
    "array": np.array,
    "uint16": lambda values: np.array(values, np.uint16),
    "uint64": lambda values: np.array(values, np.uint64),
    "big-endian": lambda values: np.array(values, ">i4"),
    "reversed view": lambda values: np.array(values[::-1])[::-1],
    "list": list,
    "tuple": tuple,
    "list of numpy": lambda values: [np.int64(value) for value in values],
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    return request.param


def test_all_kinds_become_int64(kind):
    found = as_integers("numbers", kind([5, 0, 7]), "[N]")
    assert found.dtype == torch.int64
    assert found.tolist() == [5, 0, 7]


def test_what_is_given_is_not_changed():
    for given in (np.arange(3), torch.arange(3)):
        as_integers("numbers", given, "[N]").zero_()
        assert list(given) == [0, 1, 2]


def test_nothing():
    for given in ([], np.zeros(0), torch.zeros(0, dtype=torch.int64)):
        assert as_integers("numbers", given, "[N]").shape == (0,)


@pytest.mark.parametrize(
    ("given", "shape", "got"),
    [
        (np.array([0.0, 1.0]), "[N]", r"float64 \[2\]"),
        (torch.tensor([0.0]), "[N]", r"float32 \[1\]"),
        (np.array([True]), "[N]", r"bool \[1\]"),
        (["a"], "[N]", r"<U1 \[1\]"),
        (3, "[N]", r"int64 \[\]"),
        (None, "[N]", r"object \[\]"),
        ([[1, 2]], "[N]", r"int64 \[1, 2\]"),
        ([[1, 2, 3]], "[P, 2]", r"int64 \[1, 3\]"),
        ([[1], [2, 3]], "[P, 2]", "lists of different lengths"),
    ],
)
def test_what_is_no_integers_is_refused(given, shape, got):
    wanted = shape.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ValueError, match=f"^numbers must be integers {wanted}, got {got}$"):
        as_integers("numbers", given, shape)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images = np.arange(20 * 16).reshape(20, 4, 4).astype(np.uint8)
    np.savez(path, images=images, factors=np.arange(20)[:, None] % 4, factor_names=["level"])
    return DSprites(), DSprites({"orientation": np.int64(3)}, {"scale": np.int64(2)}), ImageFile(path)


def test_images_and_factors_by_any_indices(sources, kind):
    for source in sources:
        expected = torch.tensor([5, 0, 7, 5])
        assert source.images(kind([5, 0, 7, 5])).equal(source.images(expected))
        assert source.factors(kind([5, 0, 7, 5])).equal(source.factors(expected))


def test_images_by_a_mask_or_a_number_are_refused(sources):
    for source in sources:
        for given in (np.arange(len(source)) < 3, 3, [0.5]):
            with pytest.raises(ValueError, match=r"indices must be integers \[B\], got "):
                source.images(given)
        with pytest.raises(IndexError, match="no datum -1"):
            source.images(np.array([-1]))


def test_rendering_any_classes(kind):
    rows = [[0, 1, 2, 3, 4], [2, 5, 39, 31, 0]]
    assert render([kind(row) for row in rows] if kind in (list, tuple) else np.array(rows)).equal(
        render(torch.tensor(rows))
    )


def test_batches_of_any_indices(kind):
    expected = IndexBatches(torch.tensor([3, 1, 4, 5, 9]), 2, 7, 1)
    found = IndexBatches(kind([3, 1, 4, 5, 9]), np.int64(2), np.uint8(7), np.int32(1))
    for _, one, other in zip(range(5), expected, found, strict=False):
        assert one.equal(other)
