"""Metrics of topic models: coherence (NPMI, C_v), diversity, perplexity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

__all__ = ["Coherence", "coherence_cv", "npmi", "perplexity", "topic_diversity"]

CV_EPSILON = 1e-12
"""What C_v takes for the probability of a pair of words that never occurs together; gensim takes the same."""


@dataclass(frozen=True, eq=False)
class Coherence:
    """The result of `npmi` or `coherence_cv` for ``T`` topics.

    Attributes:
        coherence: the mean over topics.
        topic_coherence: of each topic ``[T]``.
        top_words: the words that it is about, most probable first ``[T, W]``.
    """

    coherence: float
    topic_coherence: NDArray[np.float64]
    top_words: NDArray[np.int64]


def npmi(topics: NDArray[np.float64], counts: Any, *, words: int = 10) -> Coherence:
    """``log(p(a, b) / p(a) p(b)) / -log p(a, b)``, the mean over pairs of a topic's most probable words.

    Bouma, Normalized (Pointwise) Mutual Information in Collocation Extraction, 2009; for topics as in Lau, Newman,
    Baldwin, Machine Reading Tea Leaves, EACL 2014. ``p`` is the share of documents that contain a word, or both. It is
    -1 for a pair that never occurs together, 0 for independent words, 1 for words that occur only together. Count
    ``p`` on documents that the model was not trained on, or name them.

    Args:
        topics: how much each topic is about each word ``[T, vocabulary]``.
        counts: word counts of the reference documents ``[documents, vocabulary]``, dense or a scipy sparse matrix.
        words: how many words stand for a topic.
    """
    top, matrices = _top_word_npmi(topics, counts, words)
    pairs = np.triu_indices(words, 1)
    by_topic = np.array([matrix[pairs].mean() for matrix in matrices])
    return Coherence(float(by_topic.mean()), by_topic, top)


def coherence_cv(topics: NDArray[np.float64], counts: Any, *, words: int = 10) -> Coherence:
    """``C_v``: the cosine of each top word's vector of NPMI to all top words with the sum of those vectors, averaged.

    Röder, Both, Hinneburg, Exploring the Space of Topic Coherence Measures, WSDM 2015. There ``p`` is counted in
    windows of 110 words; a bag of words has no order, so that the window here is the document, and the numbers cannot
    be compared with those of windows: they are the same only where no document is longer than the window. As there, a
    pair that never occurs together counts with a probability of 1e-12, and not with the NPMI of -1 that it has in
    `npmi`; its NPMI is then about -.5 for words in one of 1,000 documents each, -.8 for words in one of 20. Every word
    is compared with itself too, so that even random words have a C_v far above 0.

    Args:
        topics: how much each topic is about each word ``[T, vocabulary]``.
        counts: word counts of the reference documents ``[documents, vocabulary]``, dense or a scipy sparse matrix.
        words: how many words stand for a topic.
    """
    top, matrices = _top_word_npmi(topics, counts, words, epsilon=CV_EPSILON)
    by_topic = np.empty(len(top))
    for topic, vectors in enumerate(matrices):
        total = vectors.sum(axis=0)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(total)
        by_topic[topic] = np.divide(vectors @ total, lengths, out=np.zeros(words), where=lengths > 0).mean()
    return Coherence(float(by_topic.mean()), by_topic, top)


def topic_diversity(topics: NDArray[np.float64], *, words: int = 25) -> float:
    """The share of different words among the most probable of all topics (Dieng, Ruiz, Blei, TACL 2020, § 6).

    1 where no two topics share a word, ``1 / T`` where all have the same.

    Args:
        topics: how much each topic is about each word ``[T, vocabulary]``.
        words: how many words stand for a topic.
    """
    top = _top_words(topics, words)
    return float(len(np.unique(top)) / top.size)


def perplexity(proportions: NDArray[np.float64], topics: NDArray[np.float64], counts: Any) -> float:
    """``exp(-Σ_dw n_dw log Σ_t θ_dt β_tw / Σ_dw n_dw)``, from 1 to infinity; a uniform guess has the vocabulary's size.

    The proportions of a document must not come from the words that are scored: take them from one half of its words,
    and score the other (document completion).

    Args:
        proportions: θ, of each document; rows sum to 1 ``[documents, T]``.
        topics: β, probabilities of words; rows sum to 1 ``[T, vocabulary]``.
        counts: n, the words to score ``[documents, vocabulary]``, dense or a scipy sparse matrix.
    """
    proportions, topics = _topics(proportions, "proportions"), _topics(topics, "topics")
    table = _counts(counts, topics.shape[1])
    for name, rows in (("proportions", proportions), ("topics", topics)):
        if not np.allclose(rows.sum(axis=1), 1.0, atol=1e-4):
            raise ValueError(f"the rows of {name} must sum to 1; their sums go up to {rows.sum(axis=1).max():.4g}")
    if proportions.shape != (table.shape[0], topics.shape[0]):
        raise ValueError(
            f"proportions must be [documents, T] = {(table.shape[0], topics.shape[0])}; got {proportions.shape}"
        )
    table = table.tocoo()
    document, word = table.coords
    probability = np.einsum("nt,nt->n", proportions[document], topics.T[word])  # of each word that occurs
    with np.errstate(divide="ignore"):
        return float(np.exp(-(table.data @ np.log(probability)) / table.data.sum()))


def _top_word_npmi(
    topics: NDArray[np.float64], counts: Any, words: int, epsilon: float = 0.0
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """The top words ``[T, W]`` and, for each topic, the NPMI of each with each ``[W, W]``; 1 of a word with itself.

    ``epsilon`` stands for the probability of a pair of words that both occur, but never together; 0 makes them -1.
    """
    top = _top_words(topics, words)
    if words < 2:
        raise ValueError(f"coherence is about pairs of words: words must be at least 2; got {words}")
    present = (_counts(counts, np.asarray(topics).shape[1]) > 0).astype(np.float64)
    matrices = []
    for row in top:
        some = present[:, row].toarray()
        joint = some.T @ some  # in how many documents, [W, W]; ratios of whole numbers are exact where they are 1
        alone = np.diag(joint)
        joint = np.where(np.outer(alone, alone) > 0, np.maximum(joint, epsilon * len(some)), 0.0)
        value = np.full(joint.shape, -1.0)
        seen = joint > 0
        ratio = joint[seen] * len(some) / np.outer(alone, alone)[seen]
        # A pair that is in every document, and has no information, is 0 / 0.
        surprise = np.log(len(some) / joint[seen])
        value[seen] = np.divide(np.log(ratio), surprise, out=np.zeros(len(ratio)), where=surprise > 0)
        np.fill_diagonal(value, np.where(alone > 0, 1.0, 0.0))
        matrices.append(value)
    return top, matrices


def _top_words(topics: NDArray[np.float64], words: int) -> NDArray[np.int64]:
    topics = _topics(topics, "topics")
    if not 1 <= words <= topics.shape[1]:
        raise ValueError(f"words must be from 1 to the {topics.shape[1]} of the vocabulary; got {words}")
    return np.asarray(np.argsort(-topics, axis=1, kind="stable")[:, :words])


def _topics(topics: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    topics = np.asarray(topics, dtype=np.float64)
    if topics.ndim != 2 or topics.size == 0:
        raise ValueError(f"{name} must be a matrix that is not empty; got shape {topics.shape}")
    if not np.isfinite(topics).all():
        raise ValueError(f"{name} contain NaN or infinity")
    return topics


def _counts(counts: Any, vocabulary: int) -> Any:
    table = csr_array(counts if issparse(counts) else np.asarray(counts))
    if table.ndim != 2 or table.shape[1] != vocabulary:
        raise ValueError(f"counts must be [documents, {vocabulary}], the vocabulary of the topics; got {table.shape}")
    if (table.data < 0).any() or not np.isfinite(table.data).all():
        raise ValueError("counts must be finite and not negative")
    if not table.sum():
        raise ValueError("counts are all 0: there is no word")
    return table
