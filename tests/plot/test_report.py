import base64
import copy
import json
import os
import re
import shutil
from pathlib import Path

import jinja2
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from synthetic_runs import METRICS, TERMS, Page, make_run

from pyro_hfvae.plot import page, report, run_content, summary_lines, write_report
from pyro_hfvae.plot.summary import findings, number

PLAIN = {**METRICS, "disentanglement": None}  # no tables to draw: quick


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with everything, and its report; not to be changed."""
    names = ("reconstructions", "samples", "traversal_pose", "traversal_kind", "swap_of_<pose>")
    run = make_run(tmp_path_factory.mktemp("runs") / "run", METRICS, pictures=names, curves=True)
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
    assert shown[:-1] == [(run / "pictures" / f"{name}.png").read_bytes() for name in order]
    assert len(shown) == 5 + 1  # the five; the curves
    assert all(content.startswith(b"\x89PNG") for content in shown)
    assert all(image["alt"] for image in page.images)
    assert "Block of_<pose> of the image on the left, all else of the image above." in page.text


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


def test_the_page_is_made_of_what_there_is_and_names_the_rest(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    for picture in (run / "pictures").iterdir():
        picture.unlink()
    text = Page(write_report(run).read_text()).text
    assert "There are no pictures: 'pyro-hfvae traverse' draws them" in text
    assert "are not known: 'pyro-hfvae evaluate'" not in text
    for name in ("metrics.json", "metrics.csv", "versions.json", "config.yaml"):
        (run / name).unlink(missing_ok=True)
        text = Page(write_report(run).read_text()).text
    assert "Terms and scores are not known: 'pyro-hfvae evaluate' measures them." in text
    assert "No config.yaml" in text


def test_what_could_not_be_measured_is_on_the_page(tmp_path):
    metrics = PLAIN | {"left_out": {"<b>": "it has the value 0 in all 4 held-out data"}, "disentanglement_note": "few"}
    text = Page(write_report(make_run(tmp_path / "run", metrics)).read_text()).text
    assert "Factor <b> is left out: it has the value 0 in all 4 held-out data." in text
    assert "What blocks and variables encode of the factors is not known: few." in text
    assert "without known factors" not in text


def test_broken_files_are_named(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    picture = run / "pictures" / "samples.png"
    whole = picture.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-20], bytes(damaged)):
        picture.write_bytes(content)
        with pytest.raises(ValueError, match=r"samples\.png' is not a whole PNG or GIF: ") as error:
            write_report(run)
        assert "\n" not in str(error.value)
    picture.write_bytes(whole)
    for name, content, message in (
        (
            "metrics.csv",
            b"step,train/elbo\n1,x3\n",
            "is no table of steps and terms: could not convert string to float",
        ),
        ("metrics.csv", b"step,train/elbo\n1,\xff\n", "is no table of steps and terms: 'utf-8' codec"),
        ("checks/summary.txt", b"\xff\xfe", "is no text in UTF-8"),
        ("config.yaml", b"\xff\xfe", "is no text in UTF-8"),
        ("versions.json", b'{"wall_seconds": "long"}', "is damaged, make it anew"),
        ("versions.json", b"{", "is not JSON"),
        ("metrics.json", b'{"terms": [1]}', "is damaged, make it anew"),
        ("metrics.json", b'{"terms": {"elbo": "x"}}', "is damaged, make it anew"),
        ("metrics.json", b'{"step": "three"}', "is damaged, make it anew"),
        ("metrics.json", b'{"disentanglement": {"block_factor": {"factors": [1]}}}', "is damaged, make it anew"),
        ("metrics.json", b"{", "is not JSON"),
    ):
        (run / "checks").mkdir(exist_ok=True)
        before = (run / name).read_bytes() if (run / name).is_file() else None
        (run / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}'?.* {message}") as error:
            write_report(run)
        assert "\n" not in str(error.value)
        (run / name).unlink() if before is None else (run / name).write_bytes(before)
    assert write_report(run).is_file()


def test_a_link_out_of_the_run_is_not_followed(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    (tmp_path / "secret").write_text("of the user")
    (run / "config.yaml").unlink(missing_ok=True)
    (run / "config.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"config\.yaml' is a link that leads out of the run folder"):
        write_report(run)


def test_history_passes_over_empty_cells(run):
    history = run_content.read_history(run / "metrics.csv")
    assert list(history) == [f"{part}/{term}" for part in ("train", "val") for term in TERMS]
    assert [column.tolist() for column in history["train/elbo"]] == [[0, 10, 20, 30, 40], [1.5] * 5]
    assert [column.tolist() for column in history["val/within"]] == [[50], [2]]


def fail(*arguments, **keywords):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize(
    ("owner", "name"), [(jinja2.Template, "render"), (os, "replace"), (report, "curves"), (os, "fdopen")]
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


def inactive_kind():
    metrics = copy.deepcopy(METRICS)
    blocks = metrics["terms"]["blocks"]
    for part in (blocks["kind"], blocks["kind"]["variables"]["kind"], blocks["pose"]["variables"]["pose[1]"]):
        part["active"] = False
    return metrics


def rows_of(html):
    """Rows of all tables: whether each is marked as inactive, and its text."""
    rows = re.findall(r"<tr( class=\"inactive\")?>(.*?)</tr>", html, flags=re.DOTALL)
    return [(bool(mark), Page(content).text) for mark, content in rows]


def test_inactive_blocks_and_variables_are_greyed_and_explained(tmp_path):
    html = write_report(make_run(tmp_path / "run", inactive_kind())).read_text()
    greyed = {text.split("†")[0].strip() for mark, text in rows_of(html) if mark}
    assert greyed == {"kind", "pose[1]"}
    assert all(("†" in text) == mark for mark, text in rows_of(html))
    assert "† inactive: I(x; z) is 0.01 nats or less." in Page(html).text
    coloured = [
        text for text in re.findall(r"<tr class=\"inactive\">.*?</tr>", html, re.DOTALL) if "background" in text
    ]
    assert not coloured
    assert "kind (1.06 nats)" not in Page(html).text  # no inactive variable is the most informative one


def test_nothing_is_greyed_where_all_is_active(html):
    assert "†" not in Page(html).text
    assert not any(mark for mark, _ in rows_of(html))


def test_tables_of_numbers_are_coloured_by_their_size(html):
    cells = re.findall(r"<td style=\"background: (#\w{6}); color: #\w{3}\">([\d.-]+)</td>", html)
    colours = {float(text): colour for colour, text in cells[:9]}  # block × factor, with a row of all blocks
    assert list(colours)[:3] == [0.71, 0.95, 0.05]
    assert colours[0.98] == to_hex(colormaps["cividis"](0.98))
    assert colours[0.05] == to_hex(colormaps["cividis"](0.05))


def test_swaps_are_told_by_who_gave_the_block(html):
    text = " ".join(re.sub("<[^>]*>", " ", html).split())
    assert "Swaps: score with which the factors of the datum that gave a block are read off what is decoded of" in text
    assert "pose 0.34 0.93 -0.97" in text
    assert "kind 0.89 -0.98 -0.96" in text
    assert "as it is 0.92 0.95 0.05" in text


def test_why_swaps_are_not_known(tmp_path):
    metrics = copy.deepcopy(METRICS)
    metrics["disentanglement"] |= {"swaps": None, "swaps_note": "there is one block, and nothing to swap it with"}
    text = Page(write_report(make_run(tmp_path / "run", metrics)).read_text()).text
    assert "Swaps: score" not in text
    assert "What is decoded from which block is not known: there is one block, and nothing to swap it with." in text


def test_exact_information_is_told_in_nats(html):
    text = Page(html).text
    assert (
        "Information of each block about each factor, in nats, by exact marginals of 5,000 posteriors and 1,000 "
        "samples; "
        "standard errors up to 0.02. Of two numbers the first is the least for any data like these, the second" in text
    )
    cells = " ".join(re.sub("<[^>]*>", " ", html).split())
    assert "pose 0.00 to 0.22 2.10 0.08 to 0.68" in cells
    assert "kind 1.04 0.01 0.04" in cells  # exact, both bounds are one
    assert "pose[0] 0.02 2.00 0.00 to 0.33" in cells


def test_why_the_exact_information_is_not_known(tmp_path):
    metrics = copy.deepcopy(METRICS)
    metrics["disentanglement"] |= {"marginal_information": None, "marginal_information_note": "site 'z' depends on 'y'"}
    text = Page(write_report(make_run(tmp_path / "run", metrics)).read_text()).text
    assert "The information of posteriors about the factors is not known: site 'z' depends on 'y'." in text


def test_checks_are_shown_where_they_were_run(tmp_path, html):
    assert "It was not checked whether the guide is a good posterior" in Page(html).text
    run = make_run(tmp_path / "run", PLAIN)
    (run / "checks").mkdir()
    (run / "checks" / "summary.txt").write_text(
        "5 of 6 checks are fine\nNOT FINE  gap  <b>1 nat</b>\n\nwhat to try:\n- gap: a bound\n"
    )
    for name in ("guide", "of_a_new_kind"):
        shutil.copy(run / "pictures" / "samples.png", run / "checks" / f"{name}.png")
    page = Page(write_report(run).read_text())
    assert "The guide as a posterior: 5 of 6 checks are fine." in page.text
    said = "5 of 6 checks are fine. checkwhat was measured gapnot fine<b>1 nat</b> What to try: gap: a bound."
    assert f"Checks of the posterior {said}" in page.text
    assert [image["alt"] for image in page.images][2:] == [
        "Pareto k and the gap of each datum, and the bound on log p(x) over the number of draws.",
        "Of a new kind.",
    ]


def test_pictures_of_any_kind_and_moving_ones_are_shown(tmp_path):
    run = make_run(tmp_path / "run", PLAIN, pictures=("samples", "new_kind_z"))
    frames = [Image.new("L", (300, 20), shade) for shade in (0, 255)]
    frames[0].save(run / "pictures" / "traversal_z.gif", save_all=True, append_images=frames[1:])
    moving = (run / "pictures" / "traversal_z.gif").read_bytes()
    page = Page(write_report(run).read_text())
    assert [image["alt"][:10] for image in page.images] == ["Block z: o", "Data gener", "New kind z"]
    kind, _, content = page.images[0]["src"].partition(",")
    assert (kind, base64.b64decode(content)) == ("data:image/gif;base64", moving)
    assert page.images[0]["style"] == "--width: 300px"


def test_pictures_are_as_large_as_they_were_drawn(tmp_path):
    for dots in (100, 200):
        Image.new("L", (400, 10)).save(tmp_path / "picture.png", dpi=(dots, dots))
        assert page.embed(tmp_path / "picture.png", "").width == 400 * 100 / dots


def test_a_page_elsewhere(tmp_path):
    run = make_run(tmp_path / "run", PLAIN)
    assert write_report(run, tmp_path / "page.html") == tmp_path / "page.html"
    assert not (run / "report.html").exists()


def test_summary_names_what_is_inactive():
    *_, last = summary_lines(inactive_kind())
    assert last == "inactive, with I(x; z) of 0.01 nats or less: block kind, pose[1]"


def test_summary_is_five_lines():
    assert summary_lines(METRICS) == [
        "DSprites, 10,000 held-out data: ELBO -30.17 nats per datum, reconstruction -20.31",
        "where: shape: kind 0.98 (1.06 nats), x: pose 0.95 (pose[0] 2.13 nats), orientation: none",
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
    assert "x: pose 0.95, " in summary_lines(metrics)[1]


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
        metrics["terms"]["blocks"]["kind"] |= {"mutual_information": nats, "active": nats > 0.01}
        for found in findings(metrics):
            assert {found.block, *(name for name, _ in found.also)} == blocks
    metrics["terms"]["blocks"]["pose"]["active"] = False
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
    assert page.duration(seconds) == text
