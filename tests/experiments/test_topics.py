"""Topics of documents whose topics are known, and the table of hand-made cells."""

import json

import numpy as np
import pytest
from scipy.sparse import csr_array

from pyro_hfvae.experiments import topics

VOCABULARY = [f"{kind}{number}" for kind in ("star", "goal", "the") for number in range(15)]


def counts(documents, seed):
    """Documents of one of two topics, with words that are common to both, some more and some less."""
    rng = np.random.default_rng(seed)
    about = rng.integers(0, 2, documents)
    words = np.hstack([np.repeat(about[:, None] == kind, 15, 1) for kind in (0, 1)])
    return rng.poisson(np.hstack([2.0 * words, np.tile(np.linspace(0.2, 1.5, 15), (documents, 1))]))


def parts(name, table):
    table = csr_array(table.astype(np.uint16))
    return {
        f"{name}_data": table.data,
        f"{name}_indices": table.indices,
        f"{name}_indptr": table.indptr,
        f"{name}_shape": np.array(table.shape),
    }


@pytest.fixture
def content():
    return {"vocab": np.array(VOCABULARY)} | parts("train", counts(300, 0)) | parts("test", counts(100, 1))


@pytest.fixture
def file(tmp_path, content):
    np.savez(tmp_path / "corpus.npz", **content)
    return tmp_path / "corpus.npz"


def test_the_counts_are_those_of_the_file(file):
    corpus = topics.read_corpus(str(file))
    np.testing.assert_array_equal(corpus.train.toarray(), counts(300, 0))
    np.testing.assert_array_equal(corpus.test.toarray(), counts(100, 1))
    assert corpus.words.tolist() == VOCABULARY


def test_halves_are_parts_of_the_words():
    table = csr_array(counts(400, 2))
    first, second = topics.halves(table, seed=0)
    assert (first + second != table).nnz == 0
    assert min(first.min(), second.min()) >= 0
    # A binomial share: its standard error is half the root of the number of words.
    assert abs(first.sum() - table.sum() / 2) < 4 * np.sqrt(table.sum()) / 2
    assert (first != topics.halves(table, seed=1)[0]).nnz > 0


def test_known_topics_are_found_and_baselines_stand_where_they_must(file, tmp_path, capsys):
    output = tmp_path / "runs"
    arguments = ["--data", str(file), "--topics", "2", "--passes", "3", "--seeds", "0", "1", "--output", str(output)]
    topics.main(arguments)
    assert capsys.readouterr().out.strip() == (output / "topics_table.md").read_text().strip()
    rows = sorted((output / "rows").iterdir())
    assert [row.name for row in rows] == [f"topics2-passes3-seed{seed}.json" for seed in (0, 1)]
    for row in rows:
        cell = json.loads(row.read_text())
        lda, noise = cell["rows"]["LDA"], cell["rows"]["random words"]
        assert lda["NPMI"] > 0.2 > 0.1 > noise["NPMI"]
        assert lda["C_v"] > noise["C_v"]
        perplexities = [cell["rows"][name]["perplexity"] for name in ("LDA", "shares of words", "every word alike")]
        assert perplexities == sorted(perplexities)
        assert perplexities[0] < 0.85 * perplexities[1]  # of 45 words a document has 30
        assert perplexities[2] == pytest.approx(45)
        for _, words in cell["words"]:
            assert len({word[:4] for word in words if not word.startswith("the")}) == 1
    before = [row.stat().st_mtime_ns for row in rows]
    topics.main(arguments)
    assert [row.stat().st_mtime_ns for row in rows] == before  # kept, not run again


def cell(seed, score):
    versions = {"pyro_hfvae": "1", "torch": "2", "processor": "a chip", "threads": 1, "wall_seconds": 60.0}
    coherence = {"NPMI": score, "C_v": 0.5, "diversity": 1.0}
    rows = {
        "LDA": coherence | {"perplexity": 1000 * score, "seconds to fit": 12.0},
        "shares of words": {"perplexity": 2000.0},
    }
    words = [[value, [f"w{value}"] * 8] for value in (0.4, 0.3, 0.2, 0.1)]
    sizes = {"topics": 4, "passes": 5, "train": 11214, "test": 7531}
    return sizes | {"seed": seed, "rows": rows, "words": words, "scikit-learn": "3", "versions": versions}


def test_table_has_mean_and_standard_deviation_over_seeds():
    text = topics.table([cell(0, 0.1), cell(1, 0.3)])
    assert "| model | seed | NPMI | C_v | diversity | perplexity | seconds to fit |\n" in text
    assert "| LDA | 1 | 0.300 | 0.500 | 1.000 | 300 | 12 |\n" in text
    assert "| LDA | all | 0.200 ± 0.141 | 0.500 ± 0.000 | 1.000 ± 0.000 | 200 ± 141 | 12 ± 0 |\n" in text
    assert "| shares of words | each | – | – | – | 2000 | – |\n" in text
    assert "| shares of words | all |" not in text
    assert [line[:7] for line in text.splitlines() if " w0." in line] == ["| 0.400", "| 0.300", "| 0.200", "| 0.100"]
    assert "4 topics, 5 passes over 11,214 documents; measured on 7,531 others." in text
    assert "scikit-learn 3; a chip, 1 thread(s); pyro-hfvae 1, torch 2; 2 minutes in all." in text
    assert "| all |" not in topics.table([cell(0, 0.1)])


def test_a_missing_file_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        topics.main([])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"no 20 Newsgroups at '{tmp_path}/newsgroups/20news_etm_bow.npz': put an npz file with vocab" in said


def test_damaged_files_are_named(tmp_path, content):
    file = tmp_path / "corpus.npz"

    def said():
        with pytest.raises(ValueError, match="corpus.npz'") as error:
            topics.read_corpus(str(file))
        return str(error.value)

    file.write_bytes(b"no zip")
    assert "cannot be read as an npz file of word counts: " in said()
    np.savez(file, **content | {"vocab": np.array([{}], dtype=object)})
    assert "vocab: it holds Python objects" in said()  # nothing is unpickled
    np.savez(file, **{name: array for name, array in content.items() if name != "test_indptr"})
    assert said() == f"'{file}': there is no test_indptr"
    np.savez(file, **{name: array for name, array in content.items() if name != "vocab"})
    assert said() == f"'{file}': there is no vocab"
    np.savez(file, **content | {"vocab": content["vocab"][:-1]})
    assert said() == f"'{file}': train has 45 words, vocab 44"
    np.savez(file, **content | {"train_indices": content["train_indices"] + 45})
    assert f"'{file}': train_data, train_indices, train_indptr, train_shape are no parts of a sparse matrix: " in said()
    np.savez(file, **content | {"test_data": content["test_data"].astype(float) - 3})
    assert f"'{file}': test has -1 in row 0, 'star0', expected counts" in said()
