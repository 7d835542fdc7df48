import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from pyro_hfvae.metrics import coherence_cv, npmi, perplexity, topic_diversity


def documents(seed=0, documents=40, vocabulary=12):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(vocabulary), size=3), rng.poisson(0.4, (documents, vocabulary))


def slow_npmi(counts, a, b, epsilon=0.0):
    share = lambda *words: np.mean([all(row[word] > 0 for word in words) for row in counts])  # noqa: E731
    if a == b:
        return 1.0 if share(a) else 0.0
    together = share(a, b)
    if together == 0 and (epsilon == 0 or share(a) == 0 or share(b) == 0):
        return -1.0
    together = max(together, epsilon)
    if together == 1:
        return 0.0
    return math.log(together / (share(a) * share(b))) / -math.log(together)


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_coherence_by_loops(seed, words):
    topics, counts = documents(seed)
    pairwise, by_vector = npmi(topics, counts, words=words), coherence_cv(topics, counts, words=words)
    for topic in range(3):
        top = sorted(range(12), key=lambda word: -topics[topic, word])[:words]
        assert pairwise.top_words[topic].tolist() == top
        expected = np.mean([slow_npmi(counts, a, b) for a, b in combinations(top, 2)])
        assert pairwise.topic_coherence[topic] == pytest.approx(expected, abs=1e-12)
        vectors = [[slow_npmi(counts, a, b, 1e-12) for b in top] for a in top]
        total = [sum(column) for column in zip(*vectors, strict=True)]
        cosines = []
        for vector in vectors:
            lengths = math.hypot(*vector) * math.hypot(*total)
            cosines.append(sum(a * b for a, b in zip(vector, total, strict=True)) / lengths if lengths else 0.0)
        assert by_vector.topic_coherence[topic] == pytest.approx(np.mean(cosines), abs=1e-9)
    assert pairwise.coherence == pytest.approx(pairwise.topic_coherence.mean())


TEXT = """the cat sat by the door and the dog sat by the fire
a dog and a cat are no friends until the fire is lit
stars and planets turn while the moon turns about a planet
the moon and the stars shine on cat and dog
no planet shines as stars do""".splitlines()
TOPICS = (("cat", "dog", "fire", "sat"), ("moon", "stars", "planet", "shine"), ("cat", "planet", "door", "stars"))


def cv_of_text(topic, texts, window):
    """C_v from the texts, as it is defined: the share of windows that hold words, context vectors, cosines."""
    windows = []
    for text in texts:
        words = text.split()
        windows += [set(words[start : start + window]) for start in range(max(1, len(words) - window + 1))]

    def share(*words):
        return sum(set(words) <= found for found in windows) / len(windows)

    def confirmation(a, b):
        return math.log((share(a, b) + 1e-12) / (share(a) * share(b))) / -math.log(share(a, b) + 1e-12)

    context = {a: [confirmation(a, b) for b in topic] for a in topic}
    total = [sum(column) for column in zip(*context.values(), strict=True)]
    return sum(
        sum(a * b for a, b in zip(vector, total, strict=True)) / math.hypot(*vector) / math.hypot(*total)
        for vector in context.values()
    ) / len(topic)


def test_cv_of_texts_that_fit_into_the_window():
    """The same as in windows of 110 words; in shorter ones than the texts, where order counts, it is not."""
    vocabulary = sorted({word for text in TEXT for word in text.split()})
    counts = np.array([[text.split().count(word) for word in vocabulary] for text in TEXT])
    topics = np.array([[len(topic) - topic.index(w) if w in topic else 0 for w in vocabulary] for topic in TOPICS])
    found = coherence_cv(topics, counts, words=4)
    expected = [cv_of_text(topic, TEXT, window=110) for topic in TOPICS]
    np.testing.assert_allclose(found.topic_coherence, expected, atol=1e-9)
    assert found.topic_coherence[2] < min(found.topic_coherence[:2])
    narrow = [cv_of_text(topic, TEXT, window=5) for topic in TOPICS]
    assert np.abs(found.topic_coherence - narrow).min() > 0.01


def test_npmi_oracles():
    """Words 0, 1 always together; 2, 3 never; 4, 5 independent."""
    counts = np.array(
        [[1, 2, 1, 0, i // 4, (i // 2) % 2] if i % 2 else [0, 0, 0, 3, i // 4, (i // 2) % 2] for i in range(8)]
    )
    topics = np.eye(6)[[0, 2, 4]] + 0.5 * np.eye(6)[[1, 3, 5]]
    np.testing.assert_array_equal(npmi(topics, counts, words=2).topic_coherence, [1.0, -1.0, 0.0])
    np.testing.assert_allclose(coherence_cv(topics, counts, words=2).topic_coherence[0], 1.0)


def test_npmi_is_exact_at_its_ends():
    """Of words in i of 7 and j of 11 documents that are independent, and of words in i of 77 always together."""
    row, column = np.indices((7, 11)).reshape(2, -1)
    for i in range(1, 7):
        for j in range(1, 11):
            counts = np.stack([row < i, row < i, column < j], axis=1).astype(int)
            assert npmi(np.array([[3.0, 2.0, 1.0]]), counts, words=2).coherence == 1.0
            assert npmi(np.array([[1.0, 2.0, 3.0]]), counts, words=2).coherence == 0.0


def test_sparse_is_the_same():
    topics, counts = documents()
    assert npmi(topics, csr_matrix(counts)).coherence == npmi(topics, counts).coherence
    theta = np.random.default_rng(0).dirichlet(np.ones(3), size=40)
    assert perplexity(theta, topics, csr_matrix(counts)) == pytest.approx(perplexity(theta, topics, counts))


def test_a_word_in_every_document_and_one_in_none():
    topics = np.array([[3.0, 2.0, 1.0]])
    counts = np.array([[1, 1, 0], [2, 1, 0]])
    assert npmi(topics, counts, words=2).coherence == 0.0
    assert npmi(topics, counts, words=3).coherence == pytest.approx(-2 / 3)
    assert np.isfinite(coherence_cv(topics, counts, words=3).coherence)


def test_diversity():
    topics = np.repeat(np.random.default_rng(0).dirichlet(np.ones(50), size=1), 4, axis=0)
    assert topic_diversity(topics, words=10) == 0.25
    assert topic_diversity(np.eye(3) + 0.01, words=1) == 1.0
    assert topic_diversity(np.array([[3, 2, 1, 0], [0, 3, 2, 1.0]]), words=2) == 0.75


def test_perplexity_by_a_loop():
    topics, counts = documents()
    theta = np.random.default_rng(1).dirichlet(np.ones(3), size=40)
    total = sum(
        counts[d, w] * math.log(sum(theta[d, t] * topics[t, w] for t in range(3))) for d in range(40) for w in range(12)
    )
    assert perplexity(theta, topics, counts) == pytest.approx(math.exp(-total / counts.sum()))
    uniform = np.full((3, 12), 1 / 12)
    assert perplexity(theta, uniform, counts) == pytest.approx(12.0)
    assert perplexity(np.ones((1, 1)), np.array([[1.0, 0.0]]), np.array([[0, 1]])) == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, c: npmi(t[0], c), r"topics must be a matrix that is not empty; got shape \(12,\)"),
        (lambda t, c: npmi(t * np.nan, c), "topics contain NaN or infinity"),
        (
            lambda t, c: npmi(t, c[:, :5]),
            r"counts must be \[documents, 12\], the vocabulary of the topics; got \(40, 5",
        ),
        (lambda t, c: npmi(t, -c), "counts must be finite and not negative"),
        (lambda t, c: npmi(t, 0 * c), "counts are all 0: there is no word"),
        (lambda t, c: npmi(t, c, words=13), "words must be from 1 to the 12 of the vocabulary; got 13"),
        (lambda t, c: npmi(t, c, words=1), "coherence is about pairs of words: words must be at least 2; got 1"),
        (
            lambda t, c: perplexity(np.ones((40, 3)), t, c),
            "the rows of proportions must sum to 1; their sums go up to 3",
        ),
        (
            lambda t, c: perplexity(np.ones((2, 1)), t, c),
            r"proportions must be \[documents, T\] = \(40, 3\); got \(2, 1",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(*documents())
