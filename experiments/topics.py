"""Topics of 20 Newsgroups by latent Dirichlet allocation: coherence, diversity and perplexity beside baselines.

Usage: python -m pyro_hfvae.experiments.topics --seeds 0 1 2 [--data FILE]

scikit-learn's LatentDirichletAllocation is fitted to the training documents. Everything is measured on the test
documents: coherence on all their words; perplexity by document completion, which takes the proportions of a document
from one half of its words, drawn at random, and scores the other. Beside it stand the words' shares in the training
documents, as one topic, and topics of random words. Every seed is kept in rows/CELL.json and not run again; from all
rows the command makes topics_table.md.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.decomposition import LatentDirichletAllocation

from pyro_hfvae.data import Newsgroups
from pyro_hfvae.experiments.cells import about, head, kept_cell, line
from pyro_hfvae.files import write_atomically
from pyro_hfvae.metrics import coherence_cv, npmi, perplexity, topic_diversity

COLUMNS = ("NPMI", "C_v", "diversity", "perplexity", "seconds to fit")
SHOWN, WORDS = 3, 8
"""Topics of either end that the table shows with their words, and how many words."""

Cell = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """Word counts, [documents, vocabulary], of documents to train on and of others, and the words."""

    train: csr_array
    test: csr_array
    words: NDArray[np.str_]


def read_corpus(path: str) -> Corpus:
    """Reads bags of words from the npz file of :class:`~pyro_hfvae.data.Newsgroups`, with or without groups.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """
    data = Newsgroups(path)
    counts = data.matrix.astype(np.int64)
    first = 0 if data.held_out is None else int(data.held_out[0])  # the held-out documents are the last
    return Corpus(counts[:first], counts[first:], np.array(data.feature_names))


def halves(counts: csr_array, seed: int) -> tuple[csr_array, csr_array]:
    """Each word of each document to one of two halves, at random; [documents, vocabulary] both."""
    first = counts.copy()
    first.data = np.random.default_rng(seed).binomial(counts.data, 0.5)
    return first, counts - first


def measure(corpus: Corpus, topics: int, passes: int, seed: int) -> tuple[Cell, int]:
    """What LDA and the baselines reach with one seed, and the passes over the documents."""
    known, scored = halves(corpus.test, seed)
    started = time.perf_counter()
    lda = LatentDirichletAllocation(
        topics, learning_method="online", batch_size=256, total_samples=corpus.train.shape[0], max_iter=passes,
        random_state=seed,
    ).fit(corpus.train)  # fmt: skip
    seconds = time.perf_counter() - started
    found = lda.components_ / lda.components_.sum(axis=1, keepdims=True)  # [T, vocabulary]
    shares = np.asarray(corpus.train.sum(axis=0), dtype=np.float64)[None] / corpus.train.sum()  # [1, vocabulary]
    uniform = np.full_like(shares, 1 / shares.size)
    alone = np.ones((corpus.test.shape[0], 1))
    rows = {
        "LDA": _coherence(found, corpus)
        | {"perplexity": perplexity(lda.transform(known), found, scored), "seconds to fit": seconds},
        "random words": _coherence(np.random.default_rng(seed).random(found.shape), corpus),
        "shares of words": {"perplexity": perplexity(alone, shares, scored)},
        "every word alike": {"perplexity": perplexity(alone, uniform, scored)},
    }
    by_topic = npmi(found, corpus.test)
    shown = [
        (float(value), [str(corpus.words[word]) for word in top[:WORDS]])
        for value, top in zip(by_topic.topic_coherence, by_topic.top_words, strict=True)
    ]
    sizes = {"topics": topics, "passes": passes, "train": corpus.train.shape[0], "test": corpus.test.shape[0]}
    return sizes | {"rows": rows, "words": sorted(shown, reverse=True), "scikit-learn": version("scikit-learn")}, passes


def _coherence(topics: NDArray[np.float64], corpus: Corpus) -> dict[str, float]:
    return {
        "NPMI": npmi(topics, corpus.test).coherence,
        "C_v": coherence_cv(topics, corpus.test).coherence,
        "diversity": topic_diversity(topics),
    }


def table(cells: Sequence[Cell]) -> str:
    """A line for each model and seed, mean ± standard deviation over seeds, and topics of the first seed."""
    lines = head(["model", "seed", *COLUMNS])
    for model in cells[0]["rows"]:
        rows = [cell["rows"][model] for cell in cells]
        numbers = [[_number(column, row[column]) if column in row else "–" for column in COLUMNS] for row in rows]
        alike = len(rows) > 1 and all(columns == numbers[0] for columns in numbers)
        seeds = ["each"] if alike else [str(cell["seed"]) for cell in cells]
        lines += [line([model, seed, *columns]) for seed, columns in zip(seeds, numbers, strict=not alike)]
        if len(rows) > 1 and not alike:
            spreads = (
                _spread(column, [row[column] for row in rows]) if column in rows[0] else "–" for column in COLUMNS
            )
            lines.append(line([model, "all", *spreads]))
    first = cells[0]
    shown = f"topics of seed {first['seed']}: the {SHOWN} most and the {SHOWN} least coherent"
    lines += ["", *head(["NPMI", shown])]
    ends = [*first["words"][:SHOWN], *first["words"][max(SHOWN, len(first["words"]) - SHOWN) :]]
    lines += [line([f"{value:.3f}", " ".join(words)]) for value, words in ends]
    note = (
        f"{first['topics']} topics, {first['passes']} passes over {first['train']:,} documents; measured on "
        f"{first['test']:,} others. NPMI and C_v of 10 words a topic, diversity of 25. scikit-learn "
        f"{first['scikit-learn']}; {about(cells)}"
    )
    return "\n".join([*lines, "", note]) + "\n"


def _number(column: str, value: float) -> str:
    return f"{value:.0f}" if column in ("perplexity", "seconds to fit") else f"{value:.3f}"


def _spread(column: str, values: Sequence[float]) -> str:
    return f"{_number(column, statistics.fmean(values))} ± {_number(column, statistics.stdev(values))}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the seeds that are missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="newsgroups/20news_etm_bow.npz", help="npz file of bags of words")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/topics"))
    options = parser.parse_args(arguments)
    try:
        corpus = read_corpus(options.data)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    cells = []
    for seed in options.seeds:
        run = partial(measure, corpus, options.topics, options.passes, seed)
        name = f"topics{options.topics}-passes{options.passes}-seed{seed}"
        cells.append(kept_cell(options.output, name, seed, run))
    write_atomically(options.output / "topics_table.md", table(cells))
    print(table(cells))


if __name__ == "__main__":
    main()
