"""Semi-supervision: some data come with the category of a discrete site."""

from types import TracebackType
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_hfvae.infer.programs import runs_again
from pyro_hfvae.poutine.arguments import ArrayLike, as_mask, as_tensor, integral, kind
from pyro_hfvae.sites import NOTHING, DiscreteSite, describe, read_site

__all__ = ["LabelMessenger", "observe_labels"]


class LabelMessenger(Messenger):
    r"""Gives labelled data the posterior that their label is, and trains the classifier on them.

    .. math:: q(y|x^b) \to 1[y = c^b] \text{ where } b \text{ is labelled}, \qquad
        \log p(x^b, z, y) \to \log p(x^b, z, y) + w \log q(c^b | x^b)

    Kingma, Rezende, Mohamed, Welling, Semi-Supervised Learning with Deep Generative Models (NeurIPS 2014), the model M2
    and its objective with w = α. A labelled datum's ELBO is then that of an observed y: its divergence is -log p(c),
    the decoder sees c, and the inference marginal counts it as c. The second term is an observed site of the model,
    named after the site with ``_label``; every objective adds it, ``HierarchicalELBO`` to the reconstruction.

        >>> logits = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
        >>> def guide():
        ...     with pyro.plate("data", 2):
        ...         pyro.sample("digit", dist.OneHotCategorical(logits=logits))
        >>> def model():
        ...     with pyro.plate("data", 2):
        ...         pyro.sample("digit", dist.OneHotCategorical(logits=torch.zeros(2, 2)))
        >>> with observe_labels("digit", torch.tensor([0, -1]), torch.tensor([True, False]), weight=5.0):
        ...     trace = pyro.poutine.trace(guide).get_trace()
        ...     model_trace = pyro.poutine.trace(pyro.poutine.replay(model, trace=trace)).get_trace()
        >>> trace.nodes["digit"]["value"][0].tolist()
        [1.0, 0.0]
        >>> [round(float(term), 2) for term in model_trace.nodes["digit_label"]["fn"].log_factor]
        [-10.63, 0.0]

    It must enclose guide and model. ``Trace_ELBO`` scores a relaxed site by its density, which means nothing at a
    label: use ``OneHotCategorical`` there, or an objective that sums over the categories.

    Args:
        site: name of a site of one categorical.
        labels: category of each datum, [B], integers; what it is where the mask is False does not matter.
        mask: which data are labelled, [B], boolean.
        weight: w, of the classification term.

    Raises:
        TypeError: labels that are no integers, or a mask that is not boolean.
        ValueError: shapes that are not those of the batch, a label that is no category; on leaving, a site that was not
            sampled by the guide and then used by the model.
        NotImplementedError: a site that is no single categorical; names it.
    """

    def __init__(self, site: str, labels: ArrayLike, mask: ArrayLike, weight: float = 1.0) -> None:
        super().__init__()
        categories = as_tensor(labels)
        if categories is None or not integral(categories):
            raise TypeError(f"the labels of site '{site}' must be integers, got {kind(labels)}")
        known = as_mask(f"the mask of the labels of site '{site}' must be boolean", mask)
        if categories.dim() != 1 or categories.shape != known.shape:
            raise ValueError(
                f"labels and mask of site '{site}' must have the shape (B,), got {tuple(categories.shape)} and "
                f"{tuple(known.shape)}"
            )
        self.site = site
        self.labels = torch.where(known, categories.long().to(known.device), 0)
        self.mask = known
        self.weight = weight
        self._term: Tensor | None = None
        self._replayed = False
        self._used = False

    def __enter__(self) -> "LabelMessenger":
        """Installs the messenger."""
        self._replayed = self._used = False
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes it, and refuses a site that nobody used."""
        super().__exit__(kind, error, traceback)
        self._term = None  # it holds a graph
        if kind is None and not self._used:
            raise ValueError(
                f"there are labels of site '{self.site}', which must be sampled by the guide and used by the model "
                "while they are observed"
            )

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] != self.site:
            return
        # What has a value after the guide has sampled it is the model's.
        self._replayed = self._term is not None and (msg["done"] or msg["value"] is not None)
        if not msg["done"] and msg["value"] is None:
            msg["fn"], term = self._labelled(msg["fn"])
            if not runs_again():
                self._term = term

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] == self.site and self._replayed and self._term is not None:
            self._used = True
            pyro.factor(f"{self.site}_label", self._term)

    def _labelled(self, fn: Any) -> tuple[Any, Tensor]:
        """The posterior with labels, and w log q(c|x), [*batch], 0 where there is no label."""
        site = read_site(self.site, fn)
        if not isinstance(site, DiscreteSite) or site.variables != 1:
            several = f" with {site.variables} variables" if isinstance(site, DiscreteSite) else ""
            raise NotImplementedError(
                f"site '{self.site}' is {describe(fn)}{several}; labels are for one categorical, as OneHotCategorical "
                "or Concrete"
            )
        batch, categories = fn.batch_shape, site.categories
        if not batch or batch[-1] != len(self.labels):
            raise ValueError(
                f"there are {len(self.labels)} labels, but site '{self.site}' has the batch {tuple(batch)}"
            )
        if bool(((self.labels < 0) | (self.labels >= categories)).any()):
            raise ValueError(f"a label of site '{self.site}' is not one of its categories 0 to {categories - 1}")
        masses = site.log_mass[..., 0, :]  # [*batch, K]
        known = self.mask.to(masses.device)
        label = one_hot(self.labels, categories).bool().to(masses.device)  # [B, K]
        certain = torch.full_like(masses, NOTHING).masked_fill(label, 0.0)
        posterior = torch.where(known[:, None], certain, masses)
        term = torch.where(known, masses.masked_fill(~label, 0.0).sum(-1), 0.0)
        return site.with_parameters([posterior[..., None, :]], batch), self.weight * term


def observe_labels(site: str, labels: ArrayLike, mask: ArrayLike, weight: float = 1.0) -> LabelMessenger:
    """Handler of :class:`LabelMessenger`: ``with observe_labels("digit", labels, is_labelled, weight): loss = …``.

    Args:
        site: name of a site of one categorical.
        labels: category of each datum, [B], integers.
        mask: which data are labelled, [B], boolean.
        weight: of the classification term, log q(label|x).
    """
    return LabelMessenger(site, labels, mask, weight)
