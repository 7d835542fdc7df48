"""The distribution of a row of a table: a likelihood for each column, and cells that may be missing."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, constraints

__all__ = ["ColumnLikelihoods"]


class _Rows(constraints.Constraint):
    """Rows each of whose cells is missing (NaN) or in the support of its column."""

    event_dim = 1
    is_discrete = False

    def __init__(self, parts: Sequence[tuple[list[int], Distribution]]) -> None:
        self.parts = parts

    def check(self, value: Tensor) -> Tensor:
        """Whether each row is in the support, ``[...]``."""
        inside = torch.ones(value.shape[:-1], dtype=torch.bool, device=value.device)
        for indices, fn in self.parts:
            cells = value[..., indices]
            support = cast(constraints.Constraint, fn.support)
            inside = inside & (cells.isnan() | support.check(cells)).all(-1)
        return inside

    def __str__(self) -> str:
        parts = (f"{fn.support} in {_names(indices)}" for indices, fn in self.parts)
        return f"NaN where missing, else {', '.join(parts)}"


class ColumnLikelihoods(TorchDistribution):
    r"""Rows of a table whose cells are independent, each column with a likelihood of its own family.

    .. math:: \log p(x) = \sum_{j : x_j \ne \mathrm{NaN}} \log p_j(x_j)

    A missing cell (NaN) is left out, which is the density of the other cells exactly, for they are independent. Columns
    of one family go together, so that a table of a hundred numbers costs one normal::

        fn = ColumnLikelihoods([([0, 2], dist.Normal(loc, 1.0)), ([1], dist.Categorical(logits=logits[..., None, :]))])
        pyro.sample("x", fn, obs=x)  # [B, 3], of batch shape [B]

    Args:
        parts: the columns and their distribution, univariate, ``[*batch, n]`` for n columns. Together they are for all
            D columns, numbered from 0. Cells of a categorical are codes from 0 to K - 1.
        validate_args: as in torch.

    Raises:
        ValueError: a column without distribution or with two, a distribution of another shape, or no column at all.
    """

    arg_constraints = {}  # noqa: RUF012  # those of the parts, which check their own
    has_rsample = False

    def __init__(self, parts: Iterable[tuple[Sequence[int], Distribution]], validate_args: bool | None = None) -> None:
        self.parts = [([int(index) for index in indices], fn) for indices, fn in parts]
        placed = [index for indices, _ in self.parts for index in indices]
        if not placed or sorted(placed) != list(range(len(placed))):
            raise ValueError(f"the parts must be for each column from 0 once, got {_names(placed)}")
        batches = set()
        for indices, fn in self.parts:
            if fn.event_shape or fn.batch_shape[-1:] != (len(indices),):
                raise ValueError(
                    f"the distribution of {_names(indices)} must be univariate, with {len(indices)} as its last batch "
                    f"dimension, got the batch shape {tuple(fn.batch_shape)} and the event shape "
                    f"{tuple(fn.event_shape)}"
                )
            batches.add(fn.batch_shape[:-1])
        if len(batches) > 1:
            shapes = " and ".join(sorted(str(tuple(shape)) for shape in batches))
            raise ValueError(f"the distributions of the columns have different batch shapes: {shapes}")
        self._order = torch.tensor(placed).argsort().tolist()
        super().__init__(batches.pop(), Size([len(placed)]), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Rows whose cells are missing or in the support of their columns."""
        return _Rows(self.parts)

    def expand(self, batch_shape: Iterable[int], _instance: "ColumnLikelihoods | None" = None) -> "ColumnLikelihoods":
        """The same with another batch shape, which its own broadcasts to."""
        new = self._get_checked_instance(ColumnLikelihoods, _instance)
        shape = Size(batch_shape)
        new.parts = [(indices, fn.expand(Size([*shape, len(indices)]))) for indices, fn in self.parts]
        new._order = self._order
        super(ColumnLikelihoods, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return cast(ColumnLikelihoods, new)

    def cell_log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of each cell in nats, 0 where it is missing, ``[..., D]``."""
        if self._validate_args:
            self._validate_sample(value)
        cells = []
        for indices, fn in self.parts:
            given = value[..., indices]
            missing = given.isnan()
            # The gradient of a density at NaN would be NaN, although it is multiplied by 0.
            cells.append(fn.log_prob(given.masked_fill(missing, _inside(fn))).masked_fill(missing, 0.0))
        return self._in_order(cells)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the cells that are not missing, ``[...]``."""
        return self.cell_log_prob(value).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Whole rows, ``[*sample_shape, *batch, D]``."""
        return self._in_one_type([fn.sample(Size(sample_shape)) for _, fn in self.parts])

    @property
    def mean(self) -> Tensor:
        """The expected value of each cell; of a categorical its most probable code, ``[*batch, D]``."""
        return self._in_one_type([fn.probs.argmax(-1) if _codes(fn) else fn.mean for _, fn in self.parts])

    @property
    def feature_means(self) -> Tensor:
        """The same with the probabilities of the K categories in place of a code, ``[*batch, F]``."""
        means = [fn.probs if _codes(fn) else fn.mean[..., None] for _, fn in self.parts]
        columns = [column for part in means for column in part.unbind(-2)]
        return torch.cat([columns[place] for place in self._order], -1)

    def most_probable(self, feature_means: Tensor) -> Tensor:
        """Rows of feature means, of this distribution or of a mixture of several.

        Args:
            feature_means: ``[..., F]``.

        Returns:
            ``[..., D]``: of a categorical and a Bernoulli the most probable value, of others the mean.
        """
        families = {index: fn for indices, fn in self.parts for index in indices}
        ordered = [families[index] for index in sorted(families)]
        sizes = [fn.probs.shape[-1] if _codes(fn) else 1 for fn in ordered]
        cells = []
        for fn, features in zip(ordered, feature_means.split(sizes, -1), strict=True):
            cell = features.argmax(-1).to(features) if _codes(fn) else features[..., 0]
            cells.append(cell.round() if isinstance(fn, Bernoulli) else cell)
        return torch.stack(cells, -1)

    def _in_one_type(self, parts: Sequence[Tensor]) -> Tensor:
        """The same where codes are whole numbers."""
        floats = [values.dtype for values in parts if values.is_floating_point()]
        return self._in_order([values.to(floats[0] if floats else torch.get_default_dtype()) for values in parts])

    def _in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """Values of the parts in the order of the columns."""
        return torch.cat(list(parts), -1)[..., self._order]


def _codes(fn: Distribution) -> TypeGuard[Categorical]:
    return isinstance(fn, Categorical)


def _inside(fn: Distribution) -> float:
    """A value in the support of a distribution."""
    support = cast(constraints.Constraint, fn.support)
    zero = torch.zeros(fn.batch_shape[-1:])
    return 0.0 if not constraints.is_dependent(support) and bool(support.check(zero).all()) else 0.5


def _names(indices: Sequence[int]) -> str:
    names = ", ".join(map(str, indices)) or "none"
    return f"column {names}" if len(indices) == 1 else f"columns {names}"
