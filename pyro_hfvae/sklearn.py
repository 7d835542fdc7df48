"""A scikit-learn estimator: a table goes in, blocks of latent variables come out."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import pyro
import torch
from numpy.typing import ArrayLike, NDArray
from pytorch_lightning import Trainer
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader

from pyro_hfvae import infer
from pyro_hfvae.blocks import block_sizes
from pyro_hfvae.data import Batch, Column, Data, IndexBatches, Integers, Table, decode_rows, encode_rows
from pyro_hfvae.data.npz import read_arrays
from pyro_hfvae.files import expanded, replacing
from pyro_hfvae.guides import ColumnEncoder, FactorisedGuide
from pyro_hfvae.metrics import encode
from pyro_hfvae.models import ColumnFamily, Columns, DenseDecoder, Independent, StructuredModel
from pyro_hfvae.paint import decode
from pyro_hfvae.train.data_module import Gather
from pyro_hfvae.train.fit import denormals_as_zero
from pyro_hfvae.train.training import Training
from pyro_hfvae.weak import Groups, PairBatches, Pairing, PairSampler

__all__ = ["HFVAE"]

BATCH = 1024
"""Rows that are encoded at once."""


class HFVAE(TransformerMixin, BaseEstimator):
    """An HFVAE of a table, whose blocks are the features.

    A prior of independent blocks, a likelihood for each column, dense networks of two layers, and the objective
    :class:`pyro_hfvae.HFVAE` (Esmaeili et al., AISTATS 2019). Columns of a pandas frame are what their content is,
    numbers, categories, counts, flags or times (:func:`pyro_hfvae.data.kind_of`); those of an array are numbers, unless
    ``kinds`` has them otherwise. Missing cells (NaN, None) are left out of the likelihood.

    Args:
        blocks: name and number of variables of each Gaussian block; ``{"z": 8}`` by default.
        discrete: name and number of categories of each discrete block.
        mutual_information: weight of the information I(x; z), or of that of blocks by name; None leaves discrete blocks
            free of it beside others.
        between: weight of the total correlation between blocks.
        within: weight of that within blocks.
        kinds: kinds of columns by name (of an array by ``"x0"``, ``"x1"``, ...), or one for all.
        likelihoods: name of a column to another likelihood than its kind's: ``student_t``, ``poisson``, ``normal``.
        hidden: units of the hidden layers of the encoder; those of the decoder are the same, reversed.
        shared: the block that rows of the same group share, where ``fit`` is given groups; the first by default.
        steps: of training.
        batch_size: rows of a batch; of fewer rows, all.
        learning_rate: of Adam.
        random_state: seed of parameters, batches and samples.

    Attributes:
        columns_: what each column is.
        model_: the generative program.
        guide_: the inference program.
        n_features_in_: number of columns.
        feature_names_in_: their names, of a frame.
    """

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        discrete: Mapping[str, int] | None = None,
        mutual_information: float | Mapping[str, float] | None = None,
        between: float = 1.0,
        within: float = 1.0,
        kinds: Mapping[str, str] | str | None = None,
        likelihoods: Mapping[str, ColumnFamily] | None = None,
        hidden: Sequence[int] = (128, 128),
        shared: str | None = None,
        steps: int = 2000,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        random_state: Any = None,
    ) -> None:
        self.blocks = blocks
        self.discrete = discrete
        self.mutual_information = mutual_information
        self.between = between
        self.within = within
        self.kinds = kinds
        self.likelihoods = likelihoods
        self.hidden = hidden
        self.shared = shared
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: Any, y: object = None, groups: ArrayLike | None = None) -> Self:
        """Trains on a table.

        Args:
            X: rows, ``[n, D]``: a frame or an array.
            y: ignored.
            groups: label of each row, ``[n]``: rows with the same label share what the block ``shared`` is to encode,
                all samples of one person say; they swap that block in training. NaN and None where it is not known.

        Raises:
            ValueError: a column has no values or always the same one, or cells of another kind; a setting is none.
        """
        frame = self._frame(X, reset=True)
        kinds = self.kinds if isinstance(X, pd.DataFrame) else self._kinds_of_array(frame)
        table = Table(frame, kinds=cast(Any, kinds))
        rows = _Rows(table.columns, table.batch(torch.arange(len(table))).x)
        seed = int(check_random_state(self.random_state).randint(2**31))
        with pyro.settings.context(module_local_params=True), torch.random.fork_rng():
            torch.manual_seed(seed)
            self._build(rows)
            self._train(rows, None if groups is None else _labels(groups, len(rows)), seed)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """The posterior mean of each variable, and the probability of each category, ``[n, columns]``."""
        return self._codes(X)

    def inverse_transform(self, Z: ArrayLike | pd.DataFrame) -> NDArray[np.float64] | pd.DataFrame:
        """What the decoder makes of features, in the units of the table that it was trained on.

        Args:
            Z: features as of :meth:`transform`, ``[n, columns]``.

        Returns:
            The expected value of numbers, counts and flags, the likeliest category; a frame, or an array ``[n, D]`` if
            an array was trained on.

        Raises:
            ValueError: another number of features.
        """
        check_is_fitted(self)
        codes = np.asarray(Z, dtype=np.float64)
        names = self.get_feature_names_out()
        if codes.ndim != 2 or codes.shape[1] != len(names):
            raise ValueError(f"Z is {list(codes.shape)}, expected [n, {len(names)}], as of transform")
        ends = np.cumsum(list(self._sizes().values()))[:-1]
        parts = np.split(codes.astype(np.float32), ends, axis=1)
        values = dict(zip(self._sizes(), map(torch.from_numpy, parts), strict=True))
        x = torch.zeros(len(codes), len(self.columns_))
        with pyro.settings.context(module_local_params=True):
            found = decode_rows(self.columns_, decode(self.model_, values, x))
        return found if hasattr(self, "feature_names_in_") else found.to_numpy()

    def score(self, X: Any, y: object = None) -> float:
        """The mean ELBO in nats per row, all weights 1, with one sample for each row; higher is better."""
        x = self._encoded(X)
        with torch.random.fork_rng(), pyro.settings.context(module_local_params=True):
            torch.manual_seed(0)
            terms = infer.HierarchicalELBO(max(2, len(x))).aggregate_terms(
                self.model_, self.guide_, [(part,) for part in x.split(BATCH)]
            )
        return float(terms.elbo)

    @available_if(lambda self: bool(self.discrete))
    def predict(self, X: Any, block: str | None = None) -> NDArray[np.int64]:
        """The likeliest category of each row, ``[n]``.

        Args:
            X: rows.
            block: the discrete block; the first by default.

        Raises:
            ValueError: there is no such discrete block.
        """
        name = next(iter(self.discrete or {})) if block is None else block
        if name not in (self.discrete or {}):
            raise ValueError(f"'{name}' is no discrete block; those are: {', '.join(self.discrete or {})}")
        codes = self._codes(X)
        end = np.cumsum(list(self._sizes().values()))[list(self._sizes()).index(name)]
        return np.asarray(codes[:, end - self._sizes()[name] : end].argmax(1), dtype=np.int64)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Names of the features: ``z[0]``, ``z[1]``, ..., and ``type = 0``, ``type = 1``, ... of a discrete block."""
        check_is_fitted(self)
        gaussian, discrete = self._blocks()
        names = [f"{name}[{v}]" for name, size in gaussian.items() for v in range(size)]
        names += [f"{name} = {k}" for name, size in discrete.items() for k in range(size)]
        return np.array(names, dtype=object)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the fitted estimator into a file that holds arrays and text, and no code.

        Raises:
            ValueError: the settings hold something else than numbers and texts.
        """
        check_is_fitted(self)
        settings = self.get_params(deep=False)
        try:
            text = json.dumps(
                {
                    "settings": settings,
                    "columns": [asdict(column) for column in self.columns_],
                    "names": list(getattr(self, "feature_names_in_", [])),
                },
                default=_plain,
            )
        except TypeError as error:
            raise ValueError(f"the settings cannot be saved: {error}") from error
        programs = {"model": self.model_, "guide": self.guide_}
        arrays = {f"{part}.{name}": t.numpy() for part, m in programs.items() for name, t in m.state_dict().items()}
        with replacing(expanded(path)) as file:
            np.savez(file, settings=np.array(text), arrays=np.array(list(arrays)), **arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Reads what :meth:`save` wrote; nothing is unpickled.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file.
        """
        file = Path(expanded(path))
        if not file.is_file():
            raise FileNotFoundError(f"there is no estimator at '{file}'")
        content = read_arrays(file, ("settings", "arrays"))
        try:
            known = json.loads(str(content["settings"]))
            estimator = cls(**known["settings"])
            columns = tuple(Column(**{**column, "labels": tuple(column["labels"])}) for column in known["columns"])
            if known["names"]:
                estimator.feature_names_in_ = np.array(known["names"], dtype=object)
            estimator.n_features_in_ = len(columns)
            with pyro.settings.context(module_local_params=True):
                estimator._build(_Rows(columns, torch.zeros(1, len(columns))))
            arrays = read_arrays(file, content["arrays"].tolist())
            for part, program in (("model", estimator.model_), ("guide", estimator.guide_)):
                own = {n.removeprefix(f"{part}."): torch.from_numpy(a) for n, a in arrays.items() if n.startswith(part)}
                program.load_state_dict(own)
        except (KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(f"'{file}' holds no estimator that can be read: {' '.join(str(error).split())}") from error
        return estimator

    def _blocks(self) -> tuple[dict[str, int], dict[str, int]]:
        """Name and size of the Gaussian blocks and of the discrete ones."""
        gaussian = {"z": 8} if self.blocks is None and not self.discrete else self.blocks
        return block_sizes(gaussian or {}, self.discrete or {})

    def _sizes(self) -> dict[str, int]:
        """Name and number of features of each block, in their order."""
        gaussian, discrete = self._blocks()
        return gaussian | discrete

    def _build(self, rows: "_Rows") -> None:
        gaussian, discrete = self._blocks()
        hidden = tuple(self.hidden)
        decoder = partial(DenseDecoder, hidden=hidden[::-1])
        self.columns_ = rows.columns
        self.model_ = StructuredModel(Independent(gaussian, discrete), Columns(decoder, self.likelihoods), rows).eval()
        self.guide_ = FactorisedGuide(gaussian, discrete, partial(ColumnEncoder, hidden=hidden), data=rows).eval()

    def _train(self, rows: "_Rows", labels: NDArray[np.int64] | None, seed: int) -> None:
        objective = infer.HFVAE(len(rows), cast(Any, self.mutual_information), between=self.between, within=self.within)
        training = Training(self.model_, self.guide_, objective, partial(Adam, lr=self.learning_rate)).train()
        indices = torch.arange(len(rows))
        if labels is not None and len(rows) < 4:
            raise ValueError(f"groups need 4 rows or more, got {len(rows)}: a batch has the partners of its rows too")
        most = len(rows) if labels is None else len(rows) // 2
        batches: Any = IndexBatches(indices, max(2, min(self.batch_size, most)), seed)
        if labels is not None:
            shared = next(iter(self._sizes())) if self.shared is None else self.shared
            if shared not in self._sizes():
                raise ValueError(f"shared names '{shared}', which is no block; those are: {', '.join(self._sizes())}")
            others: dict[str, Any] = {name: [] for name in self._sizes() if name != shared}
            pairing = Pairing({shared: Groups(labels), **others}, swap=True)
            batches = PairBatches(batches, PairSampler(pairing, indices, torch.zeros(len(rows), 0).long(), (), seed))
        with _quiet_trainer(), pyro.validation_enabled(False), denormals_as_zero():
            trainer = Trainer(
                accelerator="cpu",
                max_steps=self.steps,
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(training, DataLoader(Gather(rows, labels is not None), sampler=batches, batch_size=None))
        training.eval()

    def _codes(self, X: Any) -> NDArray[np.float64]:
        """What transform gives, whatever output it is set to."""
        x = self._encoded(X)
        with torch.no_grad(), pyro.settings.context(module_local_params=True):
            return encode(self.guide_, [(part,) for part in x.split(BATCH)]).columns

    def _encoded(self, X: Any) -> Tensor:
        check_is_fitted(self)
        return encode_rows(self.columns_, self._frame(X, reset=False))

    def _frame(self, X: Any, reset: bool) -> pd.DataFrame:
        """X as a frame, checked as scikit-learn does: names and number of columns those that were trained on."""
        checked = validate_data(
            self,
            X,
            reset=reset,
            skip_check_array=isinstance(X, pd.DataFrame),
            **({} if isinstance(X, pd.DataFrame) else {"dtype": "numeric", "ensure_all_finite": "allow-nan"}),
            **({"ensure_min_samples": 2} if reset and not isinstance(X, pd.DataFrame) else {}),
        )
        if isinstance(checked, pd.DataFrame):
            return checked
        return pd.DataFrame(np.asarray(checked, dtype=np.float64), columns=[f"x{d}" for d in range(checked.shape[1])])

    def _kinds_of_array(self, frame: pd.DataFrame) -> Any:
        """Numbers, but for those columns of which the user has it otherwise."""
        if isinstance(self.kinds, str):
            return self.kinds
        return dict.fromkeys(frame.columns, "number") | dict(self.kinds or {})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


def _plain(value: object) -> object:
    """A number of NumPy as one of Python, for JSON.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is no number and no text")


class _Rows(Data):
    """Rows of a table, encoded, in memory."""

    def __init__(self, columns: tuple[Column, ...], x: Tensor) -> None:
        self.columns = columns
        self.x = x  # [N, D]

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Integers) -> Batch:
        return Batch(x=self.x[self._checked(indices)])

    def factors(self, indices: Integers) -> Tensor:
        return torch.zeros(len(indices), 0, dtype=torch.long)


@contextmanager
def _quiet_trainer() -> Iterator[None]:
    """Without Lightning's lines on devices, loggers and the end of training."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            yield
    finally:
        logger.setLevel(level)


def _labels(groups: ArrayLike, size: int) -> NDArray[np.int64]:
    """Numbers of groups from 0, -1 where one is not known.

    Raises:
        ValueError: not one label for each row.
    """
    values = pd.Series(list(cast(Any, groups)), dtype=object)  # an array would make a text of NaN among texts
    if np.ndim(groups) != 1 or len(values) != size:
        raise ValueError(f"groups is {list(np.shape(groups))}, expected a label for each of the {size} rows")
    return np.asarray(pd.factorize(values)[0], dtype=np.int64)
