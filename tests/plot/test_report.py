import base64
import copy
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import numpy as np
import pytest

from pyro_hfvae.plot import image_grid, report, summary_lines, write_report
from pyro_hfvae.plot.summary import findings, number

METRICS = {
    "data": {"name": "DSprites", "held_out": 10000, "data_size": 727280},
    "step": 3000,
    "terms": {
        **{"elbo": -30.17, "reconstruction": -20.31, "mutual_information": 8.14},
        **{"between": 0.41, "within": 0.32, "dimension": 0.99},
        "blocks": {
            "pose": {
                **{"mutual_information": 5.21, "within": 0.33, "dimension": 0.45},
                "variables": {
                    "pose[0]": {"mutual_information": 2.61, "dimension": 0.11},
                    "pose[1]": {"mutual_information": 2.72, "dimension": 0.34},
                },
            },
            "kind": {
                **{"mutual_information": 1.07, "within": 0.0, "dimension": 0.54},
                "variables": {"kind": {"mutual_information": 1.07, "dimension": 0.54}},
            },
        },
    },
    "terms_note": "exact aggregate over the 10,000 held-out data",
    "disentanglement": {
        "dci": {
            **{"disentanglement": 0.612, "completeness": 0.534, "informativeness": 0.823},
            "per_factor_informativeness": {"shape": 0.987, "x": 0.976, "orientation": 0.104},
            "importance": {
                "variables": ["pose[0]", "pose[1]", "kind"],
                "factors": ["shape", "x", "orientation"],
                "matrix": [[0.1, 0.9, 0.3], [0.1, 0.1, 0.3], [0.8, 0.0, 0.4]],
            },
        },
        "mig": {
            "mig": 0.312,
            "per_factor": {"shape": 0.501, "x": 0.402, "orientation": 0.003},
            "mutual_information": {
                "variables": ["pose[0]", "pose[1]", "kind"],
                "factors": ["x", "shape", "orientation"],
                "matrix": [[2.13, 0.1, 0.02], [0.3, 0.2, 0.01], [0.0, 1.06, 0.03]],
            },
        },
        "block_factor": {
            "blocks": ["pose", "kind"],
            "factors": ["shape", "x", "orientation"],
            "score": [[0.71, 0.955, 0.05], [0.98, 0.01, 0.02]],
            "all": [0.99, 0.96, 0.06],
            "chance": [0.333, 0.0, 0.0],
            "measure": ["accuracy", "r2", "r2"],
        },
    },
}
PLAIN = {**METRICS, "disentanglement": None}  # no tables to draw: quick
VERSIONS = {"pyro_hfvae": "0.1.0", "torch": "2.13.0", "processor": "CPU of a test", "seed": 7, "wall_seconds": 3725.0}
TERMS = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")


class Page(HTMLParser):
    """Text, pictures and addresses of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.images, self.addresses, self.tags = "", [], [], []
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.images.append(attributes)

    def handle_data(self, data):
        self.text += data


def make_run(run: Path, metrics=METRICS, pictures=("reconstructions", "samples"), curves=False) -> Path:
    (run / "pictures").mkdir(parents=True)
    for shade, name in enumerate(pictures):
        image_grid(np.full((1, 1, 4, 4), shade / 10), [""]).savefig(run / "pictures" / f"{name}.png")
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "versions.json").write_text(json.dumps(VERSIONS))
    (run / "config.yaml").write_text("objective:\n  between: 5.0  # <script>\n")
    if curves:
        heads = ["step", "epoch", *(f"{part}/{term}" for part in ("train", "val") for term in TERMS)]
        train = [f"{step},0,{','.join(['1.5'] * 6)},,,,,," for step in range(0, 50, 10)]
        (run / "metrics.csv").write_text("\n".join([",".join(heads), *train, "50,0,,,,,,,2,2,2,2,2,2"]) + "\n")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with everything, and its report; not to be changed."""
    names = ("reconstructions", "samples", "traversal_pose", "traversal_kind", "swap_of_<pose>")
    run = make_run(tmp_path_factory.mktemp("runs") / "run", pictures=names, curves=True)
    assert write_report(run) == run / "report.html"
    return run


@pytest.fixture
def html(run) -> str:
    return (run / "report.html").read_text()


def test_the_page_says_every_number(html):
    text = Page(html).text

    def numbers(value):
        if isinstance(value, dict):
            return [leaf for key, part in value.items() if key != "matrix" for leaf in numbers(part)]
        return [value] if isinstance(value, float) else []

    for value in numbers(METRICS["terms"]):
        assert number(value) in text
    for value in numbers(METRICS["disentanglement"]["dci"]) + numbers(METRICS["disentanglement"]["mig"]):
        assert number(value, 3) in text
    for said in (
        "727,280",
        "10,000 held-out",
        "step 3,000",
        METRICS["terms_note"],
        "2.13.0",
        "CPU of a test",
        "seed7",
    ):
        assert said in text
    assert "1 h 2 min" in text
    assert "between: 5.0 # <script>" in text


def test_the_page_says_where_each_factor_is(html):
    text = Page(html).text
    assert (
        "shape is held by block kind (accuracy 0.98, chance 0.33), and can also be read from pose (0.71). "
        "Most informative variable: kind (1.06 nats)." in text
    )
    assert "x is held by block pose (R² 0.95, chance 0.00). Most informative variable: pose[0] (2.13 nats)." in text
    assert "orientation: no block holds it (best: pose, R² 0.05, chance 0.00)." in text


def test_the_page_needs_nothing_but_itself(html):
    page = Page(html)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_the_page_has_every_picture(run, html):
    page = Page(html)
    shown = [base64.b64decode(image["src"].partition(",")[2]) for image in page.images]
    order = ["traversal_pose", "traversal_kind", "reconstructions", "samples", "swap_of_<pose>"]
    assert shown[3:-1] == [(run / "pictures" / f"{name}.png").read_bytes() for name in order]
    assert len(shown) == 3 + 5 + 1  # heat map, importance, mutual information; the five; the curves
    assert all(content.startswith(b"\x89PNG") for content in shown)
    assert all(image["alt"] for image in page.images)
    assert "swap of <pose>" in page.text


def test_scores_stand_beside_their_chance(tmp_path):
    scores = {
        "mig": {"value": 0.312, "chance": 0.011, "low": -0.002, "high": 0.024},
        "sap": {"value": 0.277, "chance": None, "low": None, "high": None},
        "infomec.modularity": {"value": 0.655, "chance": 0.305, "low": 0.201, "high": 0.409},
    }
    metrics = {**METRICS, "disentanglement": {**METRICS["disentanglement"], "scores": scores}}
    text = Page(write_report(make_run(tmp_path, metrics)).read_text()).text
    assert "MIG0.312-0.002 to 0.024gap" in text  # cells stand side by side
    assert "SAP0.277–gap" in text
    assert "InfoM0.6550.201 to 0.409each" in text
    assert "DCI disentanglement0.612–each" in text
    assert "InfoE" not in text


def test_data_without_factors(tmp_path):
    page = Page(write_report(make_run(tmp_path / "run", PLAIN)).read_text())
    assert "without known factors" in page.text
    assert "DCI" not in page.text
    assert len(page.images) == 2


def test_only_metrics_and_pictures_are_needed(tmp_path):
    run = make_run(tmp_path / "run", {"terms": {"elbo": None, "mutual_information": float("nan")}})
    for name in ("config.yaml", "versions.json"):
        (run / name).unlink()
    page = Page(write_report(run).read_text())
    assert "configuration is not known" in page.text
    assert "versions, seed and machine are not known" in page.text
    assert len(page.images) == 2


def test_the_ceiling_of_the_mutual_information_is_said(html, tmp_path):
    assert "ceiling" not in Page(html).text
    metrics = {
        **METRICS,
        "data": {**METRICS["data"], "held_out_for_terms": 5000},
        "terms": {**METRICS["terms"], "mutual_information": 8.5},
    }
    page = Page(write_report(make_run(tmp_path / "at", metrics)).read_text())
    assert "ceiling of log 5,000 = 8.52 nats" in page.text


def test_hostile_names_are_only_text(tmp_path):
    hostile = "<script>alert('$x^{$')</script>"
    text = json.dumps(METRICS).replace("pose", hostile).replace("shape", '\\"><img src=x>').replace("DSprites", hostile)
    run = make_run(tmp_path / "run", json.loads(text))
    (run / "versions.json").write_text(json.dumps({hostile: hostile}))
    page = Page(write_report(run).read_text())
    assert "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses)
    assert hostile in page.text
    assert '"><img src=x>' in page.text


def test_missing_files_say_which_command_to_run(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    for picture in (run / "pictures").iterdir():
        picture.unlink()
    with pytest.raises(FileNotFoundError, match=r"run has no pictures: run 'pyro-hfvae traverse .*run' first") as error:
        write_report(run)
    assert "\n" not in str(error.value)
    (run / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no metrics.json: run 'pyro-hfvae evaluate .*run' first") as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_broken_files_are_named(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    (run / "pictures" / "samples.png").write_bytes(b"")
    with pytest.raises(ValueError, match="not a PNG"):
        write_report(run)
    (run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json is not JSON"):
        write_report(run)


def test_history_passes_over_empty_cells(run):
    history = report._read_history(run / "metrics.csv")
    assert list(history) == [f"{part}/{term}" for part in ("train", "val") for term in TERMS]
    assert [column.tolist() for column in history["train/elbo"]] == [[0, 10, 20, 30, 40], [1.5] * 5]
    assert [column.tolist() for column in history["val/within"]] == [[50], [2]]


def fail(*arguments, **keywords):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize(
    ("owner", "name"), [(jinja2.Template, "render"), (os, "replace"), (report, "_curves"), (os, "fdopen")]
)
def test_nothing_is_left_half_written(tmp_path, monkeypatch, owner, name):
    run = make_run(tmp_path / "run", PLAIN)
    (run / "report.html").write_text("the report of yesterday")
    before = sorted(path.name for path in run.iterdir())
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        write_report(run)
    assert sorted(path.name for path in run.iterdir()) == before
    assert (run / "report.html").read_text() == "the report of yesterday"


def test_the_report_is_replaced_and_nothing_else_is_written(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    before = {path.name for path in run.iterdir()}
    (run / "report.html").write_text("old")
    assert write_report(run).read_text() != "old"
    assert {path.name for path in run.iterdir()} == before | {"report.html"}


def test_summary_is_five_lines():
    assert summary_lines(METRICS) == [
        "DSprites, 10,000 held-out data: ELBO -30.17 nats per datum, reconstruction -20.31",
        "where: shape: kind 0.98, x: pose 0.95 (pose[0] 2.13 nats), orientation: none",
        "DCI: disentanglement 0.61, completeness 0.53, informativeness 0.82",
        "MIG: 0.31 (shape 0.50, x 0.40, orientation 0.00)",
        "terms, nats per datum: mutual information 8.14, between 0.41, within 0.32, dimension 0.99",
    ]


@pytest.mark.parametrize("metrics", [PLAIN, {}, {"disentanglement": {}}])
def test_summary_without_factors(metrics):
    first, last = summary_lines(metrics)
    assert "ELBO" in first
    assert last.startswith("terms")


def test_a_variable_of_another_block_is_not_the_place():
    metrics = copy.deepcopy(METRICS)
    metrics["disentanglement"]["mig"]["mutual_information"]["matrix"][2][0] = 5.0  # kind tells most about x
    _, x, _ = findings(metrics)
    assert (x.block, x.variable, x.place) == ("pose", "kind", "pose")


def test_scores_that_are_not_known():
    metrics = copy.deepcopy(METRICS)
    table = metrics["disentanglement"]["block_factor"]
    table["score"] = [[None, float("nan"), 0.4], [None, 0.5, None]]
    table["chance"] = table["all"] = None
    shape, x, orientation = findings(metrics)
    assert (shape.block, shape.held) == (None, False)
    assert (x.block, x.held) == ("kind", True)
    assert (orientation.block, orientation.held) == ("pose", True)
    assert "shape: none, x: kind 0.50," in summary_lines(metrics)[1]


def test_another_block_that_reads_a_factor_is_named_if_it_goes_half_as_far_beyond_chance():
    metrics = copy.deepcopy(METRICS)
    table = metrics["disentanglement"]["block_factor"]
    table["score"][0][0] = 0.6  # .27 beyond chance, against .65
    assert findings(metrics)[0].also == ()
    table["score"][0][0] = 0.7
    assert findings(metrics)[0].also == (("pose", 0.7),)


def test_a_block_that_tells_nothing_holds_nothing_whatever_a_regressor_reads_from_its_traces():
    metrics = copy.deepcopy(METRICS)
    table = metrics["disentanglement"]["block_factor"]
    assert table["blocks"] == ["pose", "kind"]
    for row in table["score"]:
        row[:] = [0.99] * len(row)
    for nats, blocks in ((0.011, {"pose", "kind"}), (0.009, {"pose"})):
        metrics["terms"]["blocks"]["kind"]["mutual_information"] = nats
        for found in findings(metrics):
            assert {found.block, *(name for name, _ in found.also)} == blocks
    metrics["terms"]["blocks"]["pose"]["mutual_information"] = 0.0
    assert all(found.block is None and not found.held for found in findings(metrics))


def test_near_chance_is_not_held():
    metrics = copy.deepcopy(METRICS)
    table = metrics["disentanglement"]["block_factor"]
    table["score"][0][0] = table["score"][1][0] = 0.39  # of three shapes, .333 by chance
    assert not findings(metrics)[0].held
    table["score"][0][0] = 0.41
    assert findings(metrics)[0].held


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.001, "0.00"), (None, "–"), (float("inf"), "–"), (1234.5, "1,234.50"), (-30.1, "-30.10"), (3, "3.00")],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (4.21, "4.2 s"), (412.3, "6 min 52 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds, text):
    assert report._duration(seconds) == text
