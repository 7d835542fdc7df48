"""The subcommands on one tiny run: what they write, and that it is the same each time."""

import io
import json
import math
import re
import shutil
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from PIL import Image
from support import TinyImages

import pyro_hfvae
from pyro_hfvae import infer
from pyro_hfvae.batch import Batch
from pyro_hfvae.cli import image_pictures, main
from pyro_hfvae.metrics import (
    Factors,
    encode,
    encode_posteriors,
    marginal_information,
    measure_swaps,
    read_shared_codes,
)
from pyro_hfvae.paint import decode, posterior_modes
from pyro_hfvae.plot import image_grid
from pyro_hfvae.train import RunFolder, load_run

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
COSTS = ("mutual_information", "between", "within", "dimension")
PITCH = 11 * (8 + 1)  # 8 pixels and a gap of 1, each drawn as 11 dots
PICTURES = (
    *("reconstructions", "samples", "categories_level", "interpolation_z", "swap_z", "combinations"),
    *("aggregate_posterior", "pair_x", "pair_y", "pair_level", "traversal_z", "traversal_level"),
)
GRIDS = {  # rows and columns
    **{"reconstructions": (2, 10), "samples": (4, 10), "categories_level": (4, 10), "interpolation_z": (4, 10)},
    **{"swap_z": (7, 11), "combinations": (3, 10), "traversal_z": (2, 10), "traversal_level": (1, 4)},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, evaluated, traversed and reported; not to be changed."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    assert main(["fit", "--config", TINY, "--run", str(folder.path)]) == 0
    assert main(["evaluate", str(folder.path), "--permutations", "2"]) == 0
    for command in ("traverse", "report"):
        assert main([command, str(folder.path)]) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))


NAMES = "頭 αβγ ראש"


def test_names_in_any_alphabet_give_no_warning(tmp_path, recwarn):
    run = tmp_path / "run"
    assert fit(run, "--objective.blocks", json.dumps({NAMES: ["z"], "level": ["level"]})) == 0
    assert main(["traverse", str(run), "--gif"]) == 0
    assert [str(warning.message) for warning in recwarn] == []
    assert len(list(run.glob("pictures/traversal_*.png"))) == 2


def test_a_warning_of_the_library_is_one_line():
    assert main(["report", "lost"]) == 2
    assert warnings.formatwarning("m", UserWarning, infer.__file__, 3) == "pyro-hfvae: warning: m\n"
    assert warnings.formatwarning("m", UserWarning, np.__file__, 3).startswith(f"{np.__file__}:3: UserWarning: m\n")


def fit(run, *options):
    return main(["fit", "--config", TINY, "--run", str(run), *options])


def weights(run):
    return run.load_checkpoint()["state_dict"]


def same(a, b):
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def leaves(value):
    if isinstance(value, dict | list):
        return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]
    return [value]


def test_metrics_say_all(run):
    metrics = json.loads(run.metrics.read_text())
    assert metrics["data"] == {"name": "TinyImages", "data_size": 70, "held_out": 30, "held_out_for_terms": 30}
    assert (metrics["step"], metrics["seed"]) == (40, 0)
    assert metrics["terms_note"] == "exact inference marginal of 30 held-out data; I(x; z) is at most 3.40"
    assert metrics["disentanglement"].keys() == {
        *("scores", "notes", "permutations", "dci", "mig", "block_factor"),
        *("clustering", "active_units", "total_correlation"),
        *("marginal_information", "marginal_information_note"),
        *("swaps", "swaps_note"),
    }
    assert metrics["disentanglement"]["permutations"] == 2
    score = metrics["disentanglement"]["scores"]["mig"]
    assert score["value"] == metrics["disentanglement"]["mig"]["mig"]
    assert score["low"] <= score["chance"] <= score["high"]
    table = metrics["disentanglement"]["block_factor"]
    assert table["blocks"] == ["z", "level"]
    assert table["factors"] == ["x", "y", "level"]
    assert [len(row) for row in table["score"]] == [3, 3]
    assert len(table["chance"]) == len(table["all"]) == 3
    matrix = metrics["disentanglement"]["dci"]["importance"]
    assert matrix["variables"] == ["z[0]", "z[1]", "level"]


def test_information_of_blocks_and_variables_with_factors(run):
    measured = json.loads(run.metrics.read_text())["disentanglement"]
    found = measured["marginal_information"]
    assert measured["marginal_information_note"] is None
    assert (found["data"], found["samples"]) == (30, 30)
    assert (found["variables"], found["blocks"]) == (["z[0]", "z[1]", "level"], ["z", "level"])
    trained = load_run(run.path)
    images, factors = zip(*trained.data.held_out_batches(), strict=True)
    source = trained.data.source
    known = Factors(torch.cat(factors).numpy(), source.factor_names, source.factor_kinds)
    posteriors = encode_posteriors(trained.guide, [Batch.joined(images)])
    expected = marginal_information(posteriors, known, samples=1000)
    np.testing.assert_allclose(found["block_information"], expected.block_information, atol=1e-5)
    np.testing.assert_allclose(found["variable_error"], expected.variable_error, atol=1e-5)


def test_swaps_are_painted_by_the_model_from_posterior_modes(run):
    measured = json.loads(run.metrics.read_text())["disentanglement"]
    assert measured["swaps_note"] is None
    trained = load_run(run.path)
    images, factors = zip(*trained.data.held_out_batches(), strict=True)
    x, source = Batch.joined(images).x, trained.data.source
    latents = posterior_modes(trained.guide, x).values

    def paint(block, giving, rest):
        taken = {name: torch.from_numpy(giving if name == block else rest) for name in latents}
        values = {name: value[taken[name]] for name, value in latents.items()}
        return decode(trained.model, values, x[: len(rest)]).numpy()

    known = Factors(torch.cat(factors).numpy(), source.factor_names, source.factor_kinds)
    assert measured["swaps"] == measure_swaps(paint, ["z", "level"], known)


def test_one_block_has_nothing_to_swap(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, "--trainer.max_steps", "2", '--objective.blocks={"all": ["z", "level"]}') == 0
    assert main(["evaluate", str(run.path), "--permutations", "0"]) == 0
    measured = json.loads(run.metrics.read_text())["disentanglement"]
    assert measured["swaps"] is None
    assert "swaps need two blocks or more; there is one" in measured["swaps_note"]


def test_rows_of_numbers_are_swapped_and_drawn_as_features(tmp_path):
    """The data are images, but the model observes their pixels in a row."""
    run = RunFolder(tmp_path / "run")
    options = ["--model=support.RowModel", "--training.temperature=null", "--trainer.max_steps=2"]
    assert fit(run.path, *options) == 0
    assert main(["evaluate", str(run.path), "--permutations", "0"]) == 0
    metrics = json.loads(run.metrics.read_text())
    assert metrics["disentanglement"]["swaps"]["blocks"] == metrics["features"]["blocks"] == ["z", "level"]
    assert metrics["features"]["features"] == [f"x[{at}]" for at in range(64)]
    assert main(["traverse", str(run.path)]) == 0
    assert {f"traversal_{block}" for block in ("z", "level")} <= {path.stem for path in run.pictures.glob("*.png")}


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "support.KnownModel", "--guide.discrete", "{}"],
        ["--guide", "support.KnownGuide", "--model.discrete", "{}"],
    ],
)
def test_a_program_without_parameters_is_measured_drawn_and_checked(tmp_path, options):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, "--trainer.max_steps", "2", "--training.temperature", "null", *options) == 0
    assert main(["evaluate", str(run.path), "--permutations", "0"]) == 0
    assert main(["traverse", str(run.path)]) == 0
    few = ["--data", "6", "--draws", "30", "--predictive_draws", "39", "--simulations", "10"]
    assert main(["check", str(run.path), *few]) == 0
    assert main(["report", str(run.path)]) == 0


def test_blocks_and_variables_are_active_by_their_information(run):
    terms = json.loads(run.metrics.read_text())["terms"]
    parts = [*terms["blocks"].values(), *(v for block in terms["blocks"].values() for v in block["variables"].values())]
    assert terms["active_above"] == 0.01
    assert [part["active"] for part in parts] == [part["mutual_information"] > 0.01 for part in parts]


def test_codes_of_images_that_all_runs_share(run, tmp_path):
    found = read_shared_codes(run.codes)
    assert sorted(found.images.tolist()) == list(range(100))  # all, of so few: also those that this run trained on
    assert found.variables == ("z[0]", "z[1]")
    trained = load_run(run.path)
    expected = encode(trained.guide, [(trained.data.source.images(torch.from_numpy(found.images)),)])
    np.testing.assert_allclose(found.columns, expected.columns[:, :2], atol=1e-5)


def test_terms_are_finite_and_add_up(run):
    terms = json.loads(run.metrics.read_text())["terms"]
    assert all(math.isfinite(value) for value in leaves(terms))
    assert terms["elbo"] == pytest.approx(terms["reconstruction"] - sum(terms[name] for name in COSTS), abs=1e-4)
    blocks = terms["blocks"]
    assert blocks.keys() == {"z", "level"}
    assert blocks["z"]["variables"].keys() == {"z[0]", "z[1]"}
    for name in ("within", "dimension"):
        assert terms[name] == pytest.approx(sum(block[name] for block in blocks.values()), abs=1e-5)
    assert -0.1 < terms["mutual_information"] <= math.log(30)  # one sample for each datum: near 0 it may be below
    assert blocks["level"]["within"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("command", "written"), [(["evaluate", "--permutations", "2"], "metrics.json"), (["report"], "report.html")]
)
def test_twice_gives_the_same_file(run, copy, command, written):
    (copy.path / written).unlink()
    assert main([*command, str(copy.path)]) == 0
    again = (copy.path / written).read_bytes().replace(b"Run copy", b"Run tiny")
    assert again == (run.path / written).read_bytes()


def test_traverse_twice_gives_the_same_pictures(run, copy):
    shutil.rmtree(copy.pictures)
    assert main(["traverse", str(copy.path)]) == 0
    for name in PICTURES:
        assert (copy.pictures / f"{name}.png").read_bytes() == (run.pictures / f"{name}.png").read_bytes()


def test_another_seed_gives_other_terms(run, copy):
    assert main(["evaluate", str(copy.path), "--seed", "1", "--permutations", "0"]) == 0
    assert json.loads(copy.metrics.read_text())["terms"] != json.loads(run.metrics.read_text())["terms"]


def test_evaluate_on_fewer_data(copy, capsys):
    assert main(["evaluate", str(copy.path), "--samples", "20", "--term_samples", "10", "--permutations", "0"]) == 0
    metrics = json.loads(copy.metrics.read_text())
    assert metrics["data"]["held_out"] == 20
    assert metrics["data"]["held_out_for_terms"] == 10
    assert metrics["terms_note"].startswith("exact inference marginal of 10 held-out data")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("TinyImages, 20 held-out data: ELBO -")
    assert any(line.startswith("terms, nats per datum: ") for line in lines)


def picture(path):
    return matplotlib.image.imread(path)[..., :3]  # [height, width, 3]


def test_traverse_draws_a_picture_of_each_kind_and_block(run):
    names = [f"{name}.png" for name in PICTURES]
    assert sorted(path.name for path in run.pictures.iterdir()) == sorted(["drawn.json", *names])
    assert json.loads((run.pictures / "drawn.json").read_text()) == {"step": 40, "files": sorted(names)}
    drawn = {name: picture(run.pictures / f"{name}.png") for name in PICTURES}
    for name, (rows, columns) in GRIDS.items():
        height, width = drawn[name].shape[:2]
        assert rows * PITCH - 11 <= height < (rows + 1.5) * PITCH, name  # title and heads stand above
        assert columns * PITCH - 11 <= width < max(columns + 3.5, 10) * PITCH, name  # names of rows stand to the left
        assert drawn[name].std() > 0.05, name


def test_columns_and_output_of_traverse(copy, capsys):
    assert main(["traverse", str(copy.path), "--columns", "3", "--seed", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(copy.pictures / f"{name}.png") for name in PICTURES]
    assert picture(copy.pictures / "samples.png").shape[1] < 4 * PITCH


def test_traversals_from_an_image_and_as_animations(copy, capsys, monkeypatch):
    """The picture from an image has it in front; the rows start from its posterior."""
    grids = {}

    def recorded(images, row_labels, column_labels=None, title=None):
        grids[title] = images, row_labels, column_labels
        return image_grid(images, row_labels, column_labels, title)

    monkeypatch.setattr(image_pictures, "image_grid", recorded)
    assert main(["traverse", str(copy.path), "--columns", "4", "--prior", "--image", "57", "--gif"]) == 0
    blocks = [f"{start}traversal_{block}" for start in ("", "prior_", "image_57_") for block in ("z", "level")]
    added = [str(copy.pictures / f"{name}.{ending}") for name in blocks for ending in ("png", "gif")]
    assert capsys.readouterr().out.splitlines()[-12:] == added
    image = TinyImages().images(torch.tensor([57]))
    of_image = {title: grid for title, grid in grids.items() if title and "image 57" in title}
    assert [title.partition(";")[0] for title in of_image] == [f"{b}, all else as in image 57" for b in ("z", "level")]
    for place in ("at the median of q(z)", "at the prior's mean"):
        there = [title.partition(";")[0] for title in grids if title and place in title]
        assert re.fullmatch(re.escape(f"z, all else {place}, level = ") + "[0-3]", there[0])
        assert there[1] == f"level, all else {place}"  # its category is what moves
    (z, z_rows, z_heads), (level, level_rows, level_heads) = of_image.values()
    for grid in (z, level):
        assert (grid[0, 0] == image[0].numpy()).all()
    assert math.isnan(z[1, 0, 0, 0, 0])
    assert z_heads == ["image", "1 %", "", "", "99 %"]
    assert level_heads == ["image", "0", "1", "2", "3"]
    assert z_rows[0].startswith("z[0]: ")
    assert level_rows == ["level: 0 to 3"]
    trained = load_run(copy.path)
    modes = posterior_modes(trained.guide, image)
    rebuilt = decode(trained.model, modes.values, image)[0].numpy()
    # The category that the image has, with all else as in the image, is its reconstruction.
    np.testing.assert_allclose(level[0, 1 + int(modes.values["level"].argmax())], rebuilt, rtol=1e-5)
    with Image.open(copy.pictures / "traversal_z.gif") as read:
        assert read.n_frames == 2 * 4 - 2


def test_no_pictures_of_what_the_data_have_not(tmp_path):
    """One block, one variable, no factors: nothing to swap, to combine, to interpolate or to colour."""
    run = RunFolder(tmp_path / "run")
    sizes = [f"--{program}.{kind}" for program in ("model", "guide") for kind in ("gaussian={z: 1}", "discrete={}")]
    assert fit(run.path, *sizes, "--data", "support.PlainImages", "--trainer.max_steps=2") == 0
    assert main(["traverse", str(run.path), "--columns", "2"]) == 0
    expected = {"reconstructions", "samples", "aggregate_posterior", "traversal_z"}
    assert {path.stem for path in run.pictures.glob("*.png")} == expected


def test_the_page_has_all_pictures_and_no_address(run):
    page = (run.path / "report.html").read_text()
    assert page.count("<img ") == len(PICTURES) + 1  # pictures, curves
    assert page.count('<table class="heat">') == 6
    assert not re.search(r"https?:|//\w|@import|url\(|<script|<link", re.sub(r"base64,[^\"]*", "", page))
    assert "Block level: only it changes" in page
    assert "held by block" in page or "no block holds it" in page


def test_several_runs_make_one_page(run, copy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run.path), str(copy.path)]) == 0
    assert capsys.readouterr().out == "report: report.html\n"
    page = Path("report.html").read_text()
    assert "2 runs in 1 group" in page
    assert "UDR" in page
    assert main(["report", str(run.path), str(copy.path)]) == 0  # a page of ours is replaced
    assert main(["report", str(run.path), "--output", "one.html"]) == 0
    assert Path("one.html").read_bytes() == (run.path / "report.html").read_bytes()


def test_options_stand_over_the_configuration(tmp_path):
    run = RunFolder(tmp_path / "run")
    options = ["--objective.between", "7.5", "--model.decoder.hidden", "[24]", "--trainer.max_steps=2", "--seed", "3"]
    assert fit(run.path, *options) == 0
    state = weights(run)
    assert state["programs.model.observation.decoder.layers.0.weight"].shape == (24, 6)
    config = run.config.read_text()
    for line in ("between: 7.5", "within: 2.0", "max_steps: 2", "seed: 3"):
        assert line in config
    assert json.loads(run.versions.read_text())["seed"] == 3


def test_the_resolved_configuration_gives_the_same_run(run, tmp_path):
    other = RunFolder(tmp_path / "other")
    assert main(["fit", "--config", str(run.config), "--run", str(other.path)]) == 0
    assert same(weights(run), weights(other))
    assert other.history.read_text() == run.history.read_text()
    assert other.config.read_text() == run.config.read_text().replace(str(run.path), str(other.path))


def test_the_seed_matters(run, tmp_path):
    other = RunFolder(tmp_path / "other")
    assert fit(other.path, "--seed", "1") == 0
    assert not same(weights(run), weights(other))


@pytest.mark.parametrize("path", ["support.Halved", "support.halved"])
def test_an_objective_of_ones_own(tmp_path, path):
    config = tmp_path / "own.yaml"
    config.write_text(f"objective: {{class_path: {path}, init_args: {{half: 0.25}}}}")
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, "--config", str(config), "--trainer.max_steps=2") == 0
    assert f"class_path: {path}\n  init_args:\n    half: 0.25" in run.config.read_text()
    assert main(["evaluate", str(run.path), "--permutations", "0"]) == 0


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("{between: 2, within: 3}", []),
        ("{class_path: HierarchicalELBO, init_args: {between: 2, within: 3}}", []),
        ("{within: 3}", ["--objective.between=2"]),
        ("{class_path: pyro_hfvae.infer.HFVAE, init_args: {between: 9, within: 3}}", ["--objective.between=2"]),
    ],
)
def test_weights_stand_with_and_without_a_class(tmp_path, lines, options):
    config = tmp_path / "weights.yaml"
    config.write_text(f"objective: {lines}")
    assert fit(tmp_path / "run", "--config", str(config), *options, "--trainer.max_steps=2") == 0
    other = RunFolder(tmp_path / "other")
    assert fit(other.path, "--objective.between=2", "--objective.within=3", "--trainer.max_steps=2") == 0
    assert same(weights(RunFolder(tmp_path / "run")), weights(other))


def test_blocks_of_the_objective_are_those_of_the_measures(tmp_path):
    run = RunFolder(tmp_path / "run")
    layout = '{"first": ["z[0]"], "rest": ["z[1]", "level"]}'
    assert fit(run.path, "--objective.blocks", layout, "--trainer.max_steps", "5") == 0
    assert main(["evaluate", str(run.path), "--permutations", "0"]) == 0
    assert main(["traverse", str(run.path)]) == 0
    metrics = json.loads(run.metrics.read_text())
    assert list(metrics["terms"]["blocks"]) == ["first", "rest"]
    assert metrics["disentanglement"]["block_factor"]["blocks"] == ["first", "rest"]
    assert {path.stem for path in run.pictures.iterdir()} >= {"traversal_first", "traversal_rest"}


def shown(*arguments):
    """Exit code and output of what leaves by itself."""
    with redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as left:
        main(list(arguments))
    return left.value.code or 0, out.getvalue()


def test_version():
    assert shown("--version") == (0, f"pyro-hfvae {pyro_hfvae.__version__}\n")


def test_help_lists_the_weights():
    code, text = shown("fit", "--help")
    assert code == 0
    for option in ("--run", "--resume", "--model", "--objective.between", "--objective.blocks", "--trainer.max_steps"):
        assert option in text
    for member in ("BetaTCVAE", "DIPVAEII", "FactorVAE", "JointVAE"):
        assert f"pyro_hfvae.infer.{member}" in text
    code, text = shown("fit", "--objective.help")
    assert code == 0
    assert "weight beta of the total correlation between blocks" in " ".join(text.split())
    code, text = shown("fit", "--objective.help", "FactorVAE")
    assert code == 0
    assert "--objective.gamma" in text
    code, text = shown("--help")
    assert code == 0
    for command in ("fit", "evaluate", "traverse", "report", "check"):
        assert command in text


def test_the_random_stream_of_the_caller_decides_nothing(run, copy):
    torch.manual_seed(123)
    torch.rand(7)
    assert main(["evaluate", str(copy.path), "--permutations", "2"]) == 0
    assert copy.metrics.read_bytes() == run.metrics.read_bytes()


@pytest.mark.parametrize(
    "relaxation",
    ["null", pytest.param("pyro_hfvae.distributions.StraightThroughConcrete", marks=pytest.mark.slow)],
)
def test_relaxation_is_a_class_or_none(tmp_path, relaxation):
    """From the command line, into the configuration of the run, and back from it."""
    run = RunFolder(tmp_path / "run")
    options = [f"--{program}.init_args.relaxation={relaxation}" for program in ("model", "guide")]
    assert fit(run.path, "--trainer.max_steps=2", *options) == 0
    assert run.config.read_text().count(f"relaxation: {relaxation}") == 2
    assert main(["evaluate", str(run.path)]) == 0
    assert json.loads(run.metrics.read_text())["terms"]["blocks"]["level"]["mutual_information"] >= 0
