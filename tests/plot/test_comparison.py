"""The page of several runs: its groups, its numbers against numpy's, its pictures, and what it refuses."""

import base64
import copy
import json
import re
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import METRICS, Page, make_seed

from pyro_hfvae.metrics import Codes, udr, write_shared_codes
from pyro_hfvae.plot import group_curves, write_comparison
from pyro_hfvae.plot.groups import agreement, block_factor_of, differing_options, group_runs, spread
from pyro_hfvae.plot.run_content import read_run

ELBOS = (-30.0, -31.0, -35.0)
SCORES = (0.5, 0.7, 0.6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds of one configuration, and one run of another; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    found = [
        make_seed(folder / f"seed{seed}", METRICS, seed, 5.0, elbo, score)
        for seed, (elbo, score) in enumerate(zip(ELBOS, SCORES, strict=True))
    ]
    other = make_seed(folder / "weak", METRICS, 0, 1.0, -28.0, 0.2)
    metrics = json.loads((found[1] / "metrics.json").read_text())
    metrics["disentanglement"]["block_factor"]["score"][0][0] = 0.41
    metrics["disentanglement"]["swaps"]["given"][0][0] = 0.4
    metrics["terms"]["blocks"]["kind"]["active"] = False
    (found[1] / "metrics.json").write_text(json.dumps(metrics))
    return [found[0], other, *found[1:]]


@pytest.fixture(scope="module")
def html(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("pages") / "page.html"
    assert write_comparison(runs, output) == output
    return output.read_text()


def rows_of(html):
    """The cells of every row of every table."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, flags=re.DOTALL)
    return [
        [Page(cell).text for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL)] for row in rows
    ]


def row(html, name):
    (found,) = [cells for cells in rows_of(html) if cells and cells[0] == name]
    return found


def test_runs_are_grouped_by_their_configuration_apart_from_the_seed(runs):
    first, second = group_runs([read_run(run) for run in runs])
    assert [run.name for run in first.runs] == ["seed0", "seed1", "seed2"]
    assert [run.name for run in second.runs] == ["weak"]
    assert differing_options([first, second]) == {"objective.between": [5.0, 1.0]}
    assert first.options["objective.class_path"] == "pyro_hfvae.HierarchicalELBO"
    assert not {"run", "seed", "resume"} & set(first.options)


def test_the_page_says_what_differs_between_groups(html):
    assert row(html, "objective.between") == ["objective.between", "5.0", "1.0"]
    assert "objective.within" not in [cells[0] for cells in rows_of(html) if cells]
    assert "4 runs in 2 groups" in Page(html).text


def test_numbers_are_means_and_standard_deviations_over_seeds(html):
    expected = f"{statistics.mean(ELBOS):.2f} ± {statistics.stdev(ELBOS):.2f}"
    assert expected == "-32.00 ± 2.65"
    assert row(html, "ELBO")[1:3] == [expected, "-28.00"]
    assert row(html, "DCI disentanglement")[1:3] == ["0.60 ± 0.10chance 0.01", "0.20chance 0.01"]
    assert "MIG" not in [cells[0] for cells in rows_of(html) if cells]  # no run has a value


def test_the_table_of_blocks_and_factors_has_the_spread(html, runs):
    mean, deviation = np.mean([0.71, 0.41, 0.71]), np.std([0.71, 0.41, 0.71], ddof=1)
    of_pose = [cells for cells in rows_of(html) if cells and cells[0] == "pose"]
    assert of_pose[0] == ["pose", f"{mean:.2f} ± {deviation:.2f}", "0.95 ± 0.00", "0.05 ± 0.00"]
    assert of_pose[1] == ["pose", "0.36 ± 0.03", "0.93 ± 0.00", "-0.97 ± 0.00"]  # swaps
    assert of_pose[2] == ["pose", "0.00 ± 0.00 to 0.22", "2.10 ± 0.00", "0.08 ± 0.00 to 0.68"]  # the information
    assert of_pose[3] == ["pose", "0.71", "0.95", "0.05"]  # the other group, after the information of the first
    assert next(cells for cells in rows_of(html) if cells and cells[0] == "as it is")[1] == "0.92 ± 0.00"
    table = block_factor_of(group_runs([read_run(run) for run in runs])[0])
    assert [row.active for row in table.rows] == [True, True, True]  # inactive in one run of three only
    assert table.columns[0] == ("shape", "accuracy, chance 0.33")


def test_what_is_inactive_in_a_run_is_said_of_the_run(html):
    head, first, *rest = [cells for cells in rows_of(html) if cells and cells[0] in ("run", "seed0", "seed1", "weak")]
    assert head[-1] == "inactive"
    assert first[-1] == ""
    assert rest[0][-1] == "kind"


def test_udr_is_that_of_the_codes(html, runs):
    codes = [read_run(run).codes.codes for run in (runs[0], *runs[2:])]
    expected = udr(codes, [np.ones(2, dtype=bool)] * 3).score
    assert [row(html, f"seed{seed}")[-2] for seed in range(3)] == [f"{score:.2f}" for score in expected]
    assert row(html, "UDR")[1] == f"{expected.mean():.2f} ± {expected.std(ddof=1):.2f}"
    assert row(html, "UDR")[2] == "–"


def test_udr_counts_active_variables_only(runs, tmp_path):
    metrics = copy.deepcopy(METRICS)
    metrics["terms"]["blocks"]["pose"]["variables"]["pose[1]"]["active"] = False
    pair = [make_seed(tmp_path / name, metrics, 0, 5.0, -30.0, 0.5) for name in ("a", "b")]
    (group,) = group_runs([read_run(run) for run in pair])
    assert agreement(group).scores == pytest.approx([1.0, 1.0])  # one variable each, the same


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: (run / "codes.npz").unlink(), "no codes.npz in b: run 'pyro-hfvae evaluate' again"),
        (
            lambda run: write_shared_codes(run / "codes.npz", _codes(20), np.arange(20)),
            "the runs encoded different images: run 'pyro-hfvae evaluate' again",
        ),
    ],
)
def test_why_udr_is_not_known(tmp_path, change, reason):
    pair = [make_seed(tmp_path / name, METRICS, seed, 5.0, -30.0, 0.5) for seed, name in enumerate("ab")]
    change(pair[1])
    (group,) = group_runs([read_run(run) for run in pair])
    assert agreement(group).reason == reason
    page = Page(write_comparison(pair, tmp_path / "page.html").read_text())
    assert f"UDR is not known of group 1: {reason}." in page.text


def _codes(n):
    return Codes(np.random.default_rng(0).normal(size=(n, 2)), ("a", "b"), ((0,), (1,)), {"z": (0, 1)})


def test_no_continuous_variable(tmp_path):
    pair = [make_seed(tmp_path / name, METRICS, seed, 5.0, -30.0, 0.5) for seed, name in enumerate("ab")]
    discrete = Codes(np.eye(3), ("kind",), (slice(0, 3),), {"kind": (0,)})
    for run in pair:
        write_shared_codes(run / "codes.npz", discrete, np.arange(3))
    (group,) = group_runs([read_run(run) for run in pair])
    assert agreement(group).reason == "there is no continuous variable"


def test_traversals_of_every_run_and_the_curves(html, runs):
    page = Page(html)
    shown = [base64.b64decode(image["src"].partition(",")[2]) for image in page.images]
    order = [runs[0], *runs[2:], runs[1]]  # by group
    assert shown[1:] == [(run / "pictures" / "traversal_pose.png").read_bytes() for run in order]
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_one_group(tmp_path):
    pair = [make_seed(tmp_path / name / "same", METRICS, 0, 5.0, -30.0, 0.5) for name in "ab"]
    page = Page(write_comparison(pair, tmp_path / "page.html").read_text())
    assert "2 runs in 1 group." in page.text
    assert "All runs have the same configuration apart from the seed." in page.text
    assert all(str(run) in page.text for run in pair)  # two folders of one name


def test_runs_without_factors_pictures_or_curves(tmp_path):
    pair = [make_seed(tmp_path / name, METRICS, seed, 5.0, -30.0 - seed, 0.5) for seed, name in enumerate("ab")]
    for run in pair:
        (run / "metrics.json").write_text(json.dumps(METRICS | {"disentanglement": None}))
        (run / "pictures" / "traversal_pose.png").unlink()
        (run / "metrics.csv").unlink()
        (run / "codes.npz").unlink()
        (run / "versions.json").unlink()
    page = Page(write_comparison(pair, tmp_path / "page.html").read_text())
    assert not page.images
    assert "DCI" not in page.text
    assert "-30.17 ± 0.00" in page.text


def test_curves_of_training_are_called_so(tmp_path):
    pair = [make_seed(tmp_path / name, METRICS, 0, weight, -30.0, 0.5) for name, weight in (("a", 5.0), ("b", 1.0))]
    assert "without validation" not in write_comparison(pair, tmp_path / "page.html").read_text().lower()
    history = pair[1] / "metrics.csv"
    history.write_text(history.read_text().replace("val/", "other/"))
    page = write_comparison(pair, tmp_path / "page.html").read_text()
    assert page.count("Without validation, and therefore of batches of training: group 2.") == 2  # caption and alt


def test_different_held_out_data_are_said(tmp_path):
    pair = [make_seed(tmp_path / name, METRICS, seed, 5.0, -30.0, 0.5) for seed, name in enumerate("ab")]
    text = Page(write_comparison(pair, tmp_path / "page.html").read_text()).text
    assert "different numbers of held-out data" not in text
    fewer = METRICS | {"data": METRICS["data"] | {"held_out": 20}}
    (pair[0] / "metrics.json").write_text(json.dumps(fewer))
    text = Page(write_comparison(pair, tmp_path / "page.html").read_text()).text
    assert "The runs were measured on different numbers of held-out data" in text


def test_hostile_names_are_only_text(tmp_path):
    hostile = "<script>alert('$x^{$')</script>"
    text = json.dumps(METRICS).replace("pose", hostile).replace("DSprites", hostile)
    pair = [make_seed(tmp_path / name, json.loads(text), seed, 5.0, -30.0, 0.5) for seed, name in enumerate("ab")]
    (pair[0] / "config.yaml").write_text(json.dumps({hostile: hostile}))
    page = Page(write_comparison(pair, tmp_path / "page.html").read_text())
    assert "script" not in page.tags
    assert hostile in page.text


def test_bad_runs_are_refused_and_nothing_is_written(tmp_path):
    run = make_seed(tmp_path / "run", METRICS, 0, 5.0, -30.0, 0.5)
    other = make_seed(tmp_path / "other", METRICS, 1, 5.0, -30.0, 0.5)
    page = tmp_path / "page.html"
    with pytest.raises(ValueError, match=r"^run .*run is given twice$"):
        write_comparison([run, other, tmp_path / "other" / ".." / "run"], page)
    (other / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"other/config\.yaml is not YAML: while parsing") as error:
        write_comparison([run, other], page)
    assert "\n" not in str(error.value)
    (other / "config.yaml").write_text("a list of words")
    with pytest.raises(ValueError, match=r"other/config\.yaml is no mapping of options to values"):
        write_comparison([run, other], page)
    (other / "config.yaml").unlink()
    (other / "codes.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"other/codes\.npz' does not hold codes; write it again with"):
        write_comparison([run, other], page)
    (other / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"other has no metrics\.json: run 'pyro-hfvae evaluate .*other' first"):
        write_comparison([run, other], page)
    assert not page.exists()


@given(st.lists(st.one_of(st.none(), st.just(float("nan")), st.floats(-1e6, 1e6)), max_size=8))
def test_spread_is_that_of_the_known_values(values):
    known = [value for value in values if value is not None and value == value]
    found = spread(values)
    assert found.count == len(known)
    if known:
        assert found.mean == pytest.approx(statistics.fmean(known), abs=1e-6)
    assert np.isnan(found.mean) == (not known)
    assert np.isnan(found.deviation) == (len(known) < 2)
    if len(known) > 1:
        assert found.deviation == pytest.approx(statistics.stdev(known), rel=1e-6, abs=1e-6)


def history(steps, values, part="val"):
    return {f"{part}/elbo": (np.array(steps, float), np.array(values, float))}


def test_curves_are_the_mean_between_the_least_and_the_greatest():
    figure = group_curves(
        {
            "group 1": [history([1, 2, 3], [0, 2, 4]), history([1, 3, 4], [4, 10, 0]), {}],
            "group 2": [history([1, 2], [5, 6], "train")],
            "group 3": [{}],
        }
    )
    (axes,) = figure.axes
    first, second = axes.get_lines()
    assert first.get_xydata().tolist() == [[1, 2], [3, 7]]  # the steps that both runs have
    assert second.get_xydata().tolist() == [[1, 5], [2, 6]]
    (band,) = axes.collections  # one run makes no band
    vertices = {tuple(vertex) for vertex in band.get_paths()[0].vertices.tolist()}
    assert vertices == {(1, 0), (1, 4), (3, 4), (3, 10)}
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["group 1", "group 2"]
    assert axes.get_title() == "ELBO"


def test_no_curves():
    assert group_curves({"group 1": [{}, {}]}) is None
