"""An observation part for tables: a likelihood for each column."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import ColumnLikelihoods
from pyro_hfvae.models.dense import DenseDecoder
from pyro_hfvae.models.observations import Observation

__all__ = ["ColumnFamily", "Columns", "TableColumn", "columns_of"]

ColumnFamily: TypeAlias = Literal["normal", "student_t", "bernoulli", "categorical", "poisson", "negative_binomial"]

FAMILIES: Mapping[str, tuple[ColumnFamily, ...]] = {
    "number": ("normal", "student_t"),
    "time": ("normal", "student_t"),
    "flag": ("bernoulli",),
    "category": ("categorical",),
    "count": ("negative_binomial", "poisson", "normal", "student_t"),
}
"""Kind of a column to the likelihoods that it may have; the first by default."""

SMALLEST_SCALE = 0.01
"""Of a standardised column: one that is known exactly would pay without bound for a smaller scale."""

LARGEST_LOG_RATE = 20.0
"""5e8: a rate that overflows would make the density infinite."""


class TableColumn(Protocol):
    """What a program reads of a column of a table."""

    @property
    def name(self) -> str:
        """As in the table."""

    @property
    def kind(self) -> str:
        """One of ``number``, ``time``, ``flag``, ``category`` and ``count``."""

    @property
    def size(self) -> int:
        """K, the number of categories of a category."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the categories, where they have names."""


def columns_of(data: Data | None) -> tuple[TableColumn, ...]:
    """The columns of a table.

    Raises:
        ValueError: data that are no table, or none.
    """
    columns = tuple(getattr(data, "columns", ()))
    if not columns or data is None or len(data.shape) != 1:
        found = "no data" if data is None else f"{type(data).__name__}, a datum of which has the shape {data.shape}"
        raise ValueError(f"a likelihood for each column needs data with columns, a table; got {found}")
    return columns


class Columns(Observation):
    r"""Rows of a table, each column with a likelihood of its own; missing cells (NaN) are left out.

    Numbers and times are normal with a scale for each column, flags Bernoulli, categories categorical, counts negative
    binomial with a dispersion for each column. Scales, degrees of freedom and dispersions are learned:

    .. math:: x_j \sim N(f_j, \sigma_j), \quad 2 + \nu_j \text{ degrees of freedom}, \quad
        x_j \sim \mathrm{Poisson}(e^{f_j}), \quad
        \mathrm{Var}(x_j) = e^{f_j} + e^{2 f_j} / \theta_j

    Args:
        decoder: makes the network that gives ``outputs`` numbers, one for each column and K for a category; it may ask
            for ``outputs`` and ``blocks``.
        likelihoods: name of a column to another likelihood than that of its kind: ``student_t`` for numbers with
            outliers, ``poisson`` for counts, ``normal`` or ``student_t`` for counts that are large.
        given: covariates that the decoder gets beside the latents.
    """

    def __init__(
        self,
        decoder: Callable[[int], nn.Module] = DenseDecoder,
        likelihoods: Mapping[str, ColumnFamily] | None = None,
        given: Mapping[str, int] | Sequence[str] = (),
    ) -> None:
        super().__init__(decoder, given)
        self.likelihoods = dict(likelihoods or {})
        self.columns: tuple[TableColumn, ...] = ()
        self.families: dict[ColumnFamily, list[int]] = {}

    def prepare(self, data: Data | None) -> dict[str, Any]:
        """The number of outputs; makes a scale, degrees of freedom or a dispersion for each column that has one.

        Raises:
            ValueError: data that are no table, a likelihood of a column that is not there or that its kind cannot have.
        """
        self.columns = columns_of(data)
        names = [column.name for column in self.columns]
        for name in self.likelihoods:
            if name not in names:
                raise ValueError(
                    f"likelihoods name the column '{name}', which is not there; those are: {', '.join(names)}"
                )
        for place, column in enumerate(self.columns):
            self.families.setdefault(self._family(column), []).append(place)
        self.feature_names = {"x": tuple(name for column in self.columns for name in _features(column))}
        one = torch.tensor(1.0).expm1().log()  # softplus makes 1 of it

        def free(*families: ColumnFamily) -> nn.Parameter:
            count = sum(len(self.families.get(family, ())) for family in families)
            return nn.Parameter(one.expand(count).clone())

        self.free = nn.ParameterDict(
            {family: free(family) for family in ("normal", "student_t", "negative_binomial") if family in self.families}
        )
        if "student_t" in self.families:
            self.free["degrees_of_freedom"] = free("student_t")
        return {"outputs": sum(_outputs(column) for column in self.columns)}

    def _family(self, column: TableColumn) -> ColumnFamily:
        if column.kind not in FAMILIES:
            raise ValueError(f"column '{column.name}' is of the kind '{column.kind}'; known are: {', '.join(FAMILIES)}")
        family = self.likelihoods.get(column.name, FAMILIES[column.kind][0])
        if family not in FAMILIES[column.kind]:
            raise ValueError(
                f"column '{column.name}' is a {column.kind} and cannot be '{family}'; it can be: "
                f"{', '.join(FAMILIES[column.kind])}"
            )
        return family

    def forward(self, values: Mapping[str, Tensor], x: Tensor, **covariates: Tensor) -> None:
        """Observes the rows x, ``[B, D]``, NaN where a cell is missing."""
        if x.shape[-1] != len(self.columns):
            raise ValueError(f"the model is of {len(self.columns)} columns, but the data have {x.shape[-1]}")
        outputs = self.decode(values, covariates)  # [..., B, F]
        self.check(outputs, (sum(map(_outputs, self.columns)),), x)
        pyro.sample("x", self.likelihood(outputs), obs=x)

    def likelihood(self, outputs: Tensor) -> ColumnLikelihoods:
        """The distribution of rows from the decoder's output, ``[..., F]``."""
        of_columns = outputs.split([_outputs(column) for column in self.columns], -1)
        parts: list[tuple[list[int], Distribution]] = []
        for family, places in self.families.items():
            if family == "categorical":
                parts += [([place], dist.Categorical(logits=of_columns[place][..., None, :])) for place in places]
            else:
                parts.append((places, self._univariate(family, torch.cat([of_columns[p] for p in places], -1))))
        return ColumnLikelihoods(parts)

    def _univariate(self, family: ColumnFamily, f: Tensor) -> Distribution:
        """The distribution of the columns of one family, ``[..., n]``."""
        rates = f.clamp_max(LARGEST_LOG_RATE)
        free = softplus(self.free[family]) + SMALLEST_SCALE if family in self.free else f
        made: dict[str, Callable[[], Distribution]] = {
            "normal": lambda: dist.Normal(f, free),
            "student_t": lambda: dist.StudentT(2 + softplus(self.free["degrees_of_freedom"]), f, free),
            "bernoulli": lambda: dist.Bernoulli(logits=f),
            "poisson": lambda: dist.Poisson(rates.exp()),
            "negative_binomial": lambda: dist.NegativeBinomial(free, logits=rates - free.log()),
        }
        return made[family]()


def _outputs(column: TableColumn) -> int:
    return column.size if column.kind == "category" else 1


def _features(column: TableColumn) -> list[str]:
    if column.kind != "category":
        return [column.name]
    labels = column.labels or range(column.size)
    return [f"{column.name} = {label}" for label in labels]
