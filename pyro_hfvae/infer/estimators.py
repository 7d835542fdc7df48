"""Which posteriors stand for the inference marginal q(z) = (1/N) Σ_n q(z|x_n), and with what weights."""

import math
from abc import abstractmethod

from torch import nn

from pyro_hfvae.infer.references import References
from pyro_hfvae.infer.sample import Sample

__all__ = ["Exact", "Marginal", "Minibatch", "MinibatchWeighted"]


class Marginal(nn.Module):
    """An estimator of the inference marginal. Its state, if it has one, is that of a ``torch.nn.Module``."""

    @abstractmethod
    def references(self, sample: Sample, data_size: int) -> References:
        """The weights of the posteriors of a batch, and further posteriors.

        Args:
            sample: of the batch.
            data_size: N.

        Raises:
            ValueError: the batch cannot estimate the marginal of N data.
        """

    def reference_count(self, batch: int, data_size: int) -> int | None:
        """M, the references of a sample, its own among them; None where the terms are not in true nats."""
        return batch

    def record(self, sample: Sample, data_size: int) -> None:
        """Takes in the posteriors of a training step, after the step."""


class Minibatch(Marginal):
    r"""The paper's estimator: the own posterior has its exact weight, the rest of the batch stands for the rest.

    .. math:: \hat q(z^b) = \frac{1}{N} q(z^b|x^b) + \frac{N-1}{N (B-1)} \sum_{m \ne b} q(z^b|x^{m})

    Esmaeili et al., Structured Disentangled Representations (AISTATS 2019). Unbiased for q(z^b); its
    logarithm is biased downwards, and that by e^I(x; z_G) / 2B nats or more for a group G of variables. A batch of all
    the data (B = N) makes it the exact marginal. It is not the minibatch stratified sampling of Chen et al. (2018).
    """

    def references(self, sample: Sample, data_size: int) -> References:
        """The batch.

        Raises:
            ValueError: B > N, or B = 1 < N, where a datum has no other to be set against.
        """
        batch = sample.shape[1]
        refuse_batch(batch, data_size)
        return References(own=-math.log(data_size), other=log_weight_of_others(batch, data_size))


class MinibatchWeighted(Marginal):
    r"""Minibatch-weighted sampling: every reference has the same weight.

    .. math:: \hat q(z^b) = \frac{1}{N B} \sum_{m} q(z^b|x^{m})

    Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders (NeurIPS 2018). The weights
    sum to 1/N, so that **no term is in true nats**: each log q̂ is low by log N, I(x; z) high by log N, the total
    correlation of n sets of variables high by (n - 1) log N, and each variable's divergence low by log N; on top comes
    what a batch mean makes of the own posterior, whose weight should be 1/N and is 1/B of the sum. The constants have
    no gradient. It is here to reproduce published numbers.
    """

    def references(self, sample: Sample, data_size: int) -> References:
        """The batch.

        Raises:
            ValueError: B > N.
        """
        batch = sample.shape[1]
        if batch > data_size:
            refuse_batch(batch, data_size)
        weight = -math.log(data_size * batch)
        return References(own=weight, other=weight)

    def reference_count(self, batch: int, data_size: int) -> int | None:
        """None."""
        return None


class Exact(Marginal):
    r"""The exact marginal of a batch that is the whole data set.

    .. math:: q(z) = \frac{1}{N} \sum_n q(z|x_n)

    For small data, trained on in one batch. ``aggregate_terms`` of an objective is exact on any number of batches.
    """

    def references(self, sample: Sample, data_size: int) -> References:
        """The batch.

        Raises:
            ValueError: B is not N.
        """
        batch = sample.shape[1]
        if batch != data_size:
            raise ValueError(
                f"a batch of {batch} data is not all of data_size={data_size}, which the estimator Exact needs"
            )
        return References(own=-math.log(data_size), other=-math.log(data_size))


def refuse_batch(batch: int, data_size: int) -> None:
    """Refuses a batch that is larger than the data, or that has no other datum.

    Raises:
        ValueError: B > N, or B = 1 < N.
    """
    if batch > data_size:
        raise ValueError(f"a batch of {batch} data is larger than data_size={data_size}")
    if batch == 1 < data_size:
        raise ValueError(
            f"a batch of one datum cannot estimate the inference marginal of data_size={data_size} data; "
            "give two or more"
        )


def log_weight_of_others(references: int, data_size: int) -> float:
    """log (N - 1) / (N (M - 1)): M references, the own among them, stand for N data; 0 where there is no other."""
    return math.log((data_size - 1) / (data_size * (references - 1))) if references > 1 else 0.0
