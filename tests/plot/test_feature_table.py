import copy
import re

import pytest
from synthetic_runs import METRICS, make_run

from pyro_hfvae.plot import summary_lines, write_report
from pyro_hfvae.plot.feature_table import feature_table
from pyro_hfvae.plot.summary import decided_features

TABLE = {
    "data": 1000,
    "blocks": ["pose", "kind"],
    "features": ["age", "height", "colour", "constant"],
    "total": [[0.91, 0.3, 0.02, None], [0.1, 0.72, 0.98, None]],
    "total_error": [[0.02, 0.031, 0.01, None], [0.02, 0.03, 0.01, None]],
    "alone": [[0.9, 0.28, 0.02, None], [0.09, 0.7, 0.98, None]],
    "alone_error": [[0.02, 0.03, 0.01, None]] * 2,
    "chance": [[0.5, 0.6, 0.7, None], [0.4, 0.5, 0.3, None]],
    "chance_error": [[0.01, 0.01, 0.01, None]] * 2,
    "explained": [0.8, 0.95, 0.05, None],
}


def texts(table):
    return {row.name: [cell.text for cell in row.cells] for row in table.rows}


def test_a_row_for_each_feature_and_a_column_for_each_block():
    table = feature_table(TABLE)
    assert table.columns == (("pose", "chance 0.60"), ("kind", "chance 0.40"), ("explained", "R²"))
    assert texts(table) == {
        "age": ["0.91", "0.10", "0.80"],
        "height": ["0.30", "0.72", "0.95"],
        "colour": ["0.02", "0.98", "0.05"],
        "constant": ["–", "–", "–"],
    }
    assert "standard errors up to 0.03." in table.caption
    assert "left out" not in table.caption


def test_inactive_blocks_and_no_known_explanation():
    table = feature_table({**TABLE, "explained": None}, inactive=["kind"])
    assert table.columns[1] == ("kind", "inactive")
    assert texts(table)["age"][2] == "–"


def test_of_many_features_those_of_which_most_is_explained():
    names = [f"gene {at}" for at in range(300)]
    many = TABLE | {key: [[0.5] * 300] * 2 for key in ("total", "total_error", "chance")}
    many |= {"features": names, "explained": [(at * 7 % 300) / 300 for at in range(300)]}
    table = feature_table(many)
    assert len(table.rows) == 30
    shown = [names.index(row.name) for row in table.rows]
    assert shown == sorted(shown)
    assert {at * 7 % 300 for at in shown} == set(range(270, 300))
    assert table.caption.endswith("270 more features, of which less is explained, are left out.")


def test_what_each_block_decides_clear_of_chance():
    """Colour is decided by the kind, but next to nothing of it is explained."""
    assert decided_features({"features": TABLE}) == {"pose": [("age", 0.91)], "kind": [("height", 0.72)]}
    assert decided_features({"features": {**TABLE, "explained": None}})["kind"] == [("colour", 0.98), ("height", 0.72)]
    assert decided_features({}) == {}


def test_the_page_and_the_summary_have_it(tmp_path):
    metrics = {**copy.deepcopy(METRICS), "disentanglement": None, "features": TABLE}
    page = write_report(make_run(tmp_path / "run", metrics)).read_text()
    text = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert "Block pose decides most of age (0.91)." in text
    assert "Blocks and features pose chance 0.60 kind chance 0.40 explained R² age 0.91 0.10 0.80" in text
    assert "decides most of: pose: age 0.91; kind: height 0.72" in summary_lines(metrics)


@pytest.mark.parametrize("note", ["an exchange of blocks needs two blocks or more; there is one"])
def test_why_it_is_not_known(tmp_path, note):
    metrics = {**copy.deepcopy(METRICS), "disentanglement": None, "features": None, "features_note": note}
    page = write_report(make_run(tmp_path / "run", metrics)).read_text()
    assert f"What each block decides of each feature is not known: {note}." in page
    assert "Blocks and features" not in page
