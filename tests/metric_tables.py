"""Small tables of codes and factors for the tests of metrics."""

import numpy as np

from pyro_hfvae.metrics import Codes, Factors


def gaussian_codes(columns, blocks=None):
    """Every column one variable, all in one block by default."""
    width = columns.shape[1]
    names = tuple(f"z[{i}]" for i in range(width))
    return Codes(columns, names, tuple((i,) for i in range(width)), blocks or {"z": tuple(range(width))})


def mixed(n=600, seed=0, noise=0.2):
    """A factor of each kind, and codes that tell of them: four numbers, a category, a number of noise."""
    rng = np.random.default_rng(seed)
    values = np.stack(
        [rng.integers(0, 3, n), rng.integers(0, 6, n), rng.random(n), rng.integers(0, 8, n)], axis=1
    ).astype(np.float64)
    factors = Factors(values, ("shape", "scale", "heat", "turn"), ("categorical", "ordinal", "continuous", "circular"))
    angle = 2 * np.pi * values[:, 3] / 8
    told = np.stack([values[:, 1] / 2, 3 * values[:, 2], np.cos(angle), np.sin(angle)], axis=1)
    told = told + noise * rng.normal(size=told.shape)
    digit = 0.8 * np.eye(3)[values[:, 0].astype(int)] + 0.2 * rng.dirichlet(np.ones(3), size=n)
    codes = Codes(
        np.hstack([told, digit, rng.normal(size=(n, 1))]),
        ("scale", "heat", "turn[0]", "turn[1]", "shape", "noise"),
        ((0,), (1,), (2,), (3,), (4, 5, 6), (7,)),
        {"line": (0, 1), "circle": (2, 3), "shape": (4,), "noise": (5,)},
    )
    return codes, factors


def with_dead(codes, count=2):
    """The same with constant variables at the end, in a block of their own."""
    n, width, known = *codes.columns.shape, len(codes.variables)
    return Codes(
        np.hstack([codes.columns, np.full((n, count), 3.0)]),
        (*codes.variables, *(f"dead[{i}]" for i in range(count))),
        (*codes.variable_columns, *((width + i,) for i in range(count))),
        {**codes.blocks, "dead": tuple(known + i for i in range(count))},
    )
