"""The comparison of gated training: cells that are kept, and tables of hand-made rows."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from pyro_hfvae.cli.parser import build_fit_parser
from pyro_hfvae.experiments import gated, gated_tables

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "experiments").glob("*/gated.yaml"))
WITH_TARGETS = [folder for folder in FOLDERS if (folder / "gated_targets.yaml").is_file()]


def read(path):
    """A configuration without the name of its run."""
    config = yaml.safe_load(path.read_text())
    del config["run"]
    return config


def row(seed, score, **changes):
    """A cell with two blocks and two factors."""
    versions = {"pyro_hfvae": "1", "torch": "2", "processor": "a chip", "threads": 1, "wall_seconds": 60.0}
    table = {"blocks": ["pose", "rest"], "factors": ["yaw", "person"], "score": [[score, 0.1], [0.2, 0.3]]}
    table |= {"all": [0.9, 0.8], "chance": [0.0, 0.25], "measure": ["r2", "accuracy"]}
    content = {"data": "faces", "condition": "gated", "base": "VAE", "wrong": 0.0, "seed": seed, "steps": 10}
    content |= {"held_out": 30, "elbo": -5.0, "dci": dict.fromkeys(gated_tables.OVERALL, score), "versions": versions}
    return content | {"block_factor": table} | changes


def test_table_has_mean_and_standard_deviation_over_seeds():
    rows = [row(0, 0.5), row(1, 0.7), row(0, 0.25, condition="identity")]
    text = gated_tables.table(rows)
    assert "| gated | VAE | 0 | 2 | -5.00 ± 0.00 | 0.60 ± 0.14 | 0.60 ± 0.14 | 0.60 ± 0.14 |\n" in text
    assert "| gated | VAE | 0 | pose | 0.60 ± 0.14 | 0.10 ± 0.00 |\n" in text
    assert "| identity | VAE | 0 | pose | 0.25 | 0.10 |\n" in text
    assert "| identity | VAE | 0 | (chance) | 0.00 | 0.25 |\n" in text
    assert "| condition | base | wrong | block | yaw (r2) | person (accuracy) |\n" in text
    assert text.index("| gated | VAE | 0 | pose") < text.index("| identity | VAE | 0 | pose")
    assert "faces, 10 steps, measured on 30 held-out images; mean" in text
    assert "over seeds. a chip, 1 thread(s); pyro-hfvae 1, torch 2; 3 minutes in all." in text


def test_table_has_the_information_of_groups_whose_rows_all_have_it():
    kept = {"information": [[1.5, 0.0], [0.1, 0.2]]}
    rows = [row(0, 0.5, **kept), row(1, 0.5, information=[[0.5, 0.0], [0.1, 0.4]])]
    without = [row(0, 0.5, condition="identity", **kept), row(1, 0.5, condition="identity")]
    lines = gated_tables.table([*rows, *without]).splitlines()
    assert lines[-6].startswith("In nats, by exact marginals")
    assert lines[-5:] == [
        "",
        "| condition | base | wrong | block | yaw (nats) | person (nats) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| gated | VAE | 0 | pose | 1.00 ± 0.71 | 0.00 ± 0.00 |",
        "| gated | VAE | 0 | rest | 0.10 ± 0.00 | 0.30 ± 0.14 |",
    ]
    assert "nats" not in gated_tables.table(without)


def test_table_has_the_swaps_of_groups_whose_rows_all_have_them():
    kept = {"kept": [[-0.9, 0.8], [0.9, 0.2]], "unswapped": [0.95, 0.85]}
    rows = [row(0, 0.5, swaps=kept | {"given": [[0.9, 0.2], [-1.0, 0.7]]})]
    rows += [row(1, 0.5, swaps=kept | {"given": [[0.7, 0.2], [-0.8, 0.7]], "unswapped": [0.97, 0.85]})]
    lines = gated_tables.table([*rows, row(0, 0.5, condition="identity")]).splitlines()
    assert lines[-7].startswith("Read off pictures: one block of a held-out image is painted with all else of another.")
    assert lines[-6:] == [
        "",
        "| condition | base | wrong | block given | yaw (r2) | person (accuracy) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| gated | VAE | 0 | pose | 0.80 ± 0.14 | 0.20 ± 0.00 |",
        "| gated | VAE | 0 | rest | -0.90 ± 0.14 | 0.70 ± 0.00 |",
        "| gated | VAE | 0 | (unswapped) | 0.96 ± 0.01 | 0.85 ± 0.00 |",
    ]
    cells = list(csv.DictReader(io.StringIO(gated_tables.long_table([*rows, row(2, 0.5)]))))
    assert [(cell["given"], cell["kept"], cell["unswapped"]) for cell in cells[:4]] == [
        ("0.9", "-0.9", "0.95"),
        ("0.2", "0.8", "0.85"),
        ("-1.0", "0.9", "0.95"),
        ("0.7", "0.2", "0.85"),
    ]
    assert all(cell["given"] == cell["kept"] == cell["unswapped"] == "" for cell in cells[8:])
    assert gated_tables.swapped([*rows, row(0, 0.5, condition="identity")]) == rows
    assert "Read off pictures" not in gated_tables.table([*rows, row(2, 0.5)])  # a seed of the group has none
    numbers = [text.get_text() for text in gated_tables.picture_of_swaps(rows).axes[0].texts]
    assert numbers == ["0.80", "0.20", "-0.90", "0.70"]


def test_long_table_has_a_line_for_each_block_and_factor():
    rows = [row(0, 0.5), row(3, 0.7, wrong=0.25, information=[[1.5, 0.0], [0.1, 0.2]])]
    lines = list(csv.DictReader(io.StringIO(gated_tables.long_table(rows))))
    assert len(lines) == 8
    assert [line["score"] for line in lines[:4]] == ["0.5", "0.1", "0.2", "0.3"]
    last = lines[-1]
    assert (last["seed"], last["wrong"], last["block"], last["factor"]) == ("3", "0.25", "rest", "person")
    assert (last["all"], last["chance"], last["measure"], last["torch"]) == ("0.8", "0.25", "accuracy", "2")
    assert [line["information"] for line in lines] == ["", "", "", "", "1.5", "0.0", "0.1", "0.2"]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder of configurations of the tiny images, in the place of the shipped ones."""
    base = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())
    blocks = {"z": ["x", "y"], "level": ["level"]}
    (tmp_path / "tiny").mkdir()
    for condition in ("gated", "gated_targets", "ungated_pairs", "identity"):  # none is trimmed, and none is missed
        told = {"blocks": blocks, "gated": condition.startswith("gated"), "swap": condition != "gated_targets"}
        pairs = {} if condition == "identity" else {"pairs": told}
        config = base | {"batches": base["batches"] | pairs, "objective": {"class_path": "pyro_hfvae.infer.VAE"}}
        (tmp_path / "tiny" / f"{condition}.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "tiny" / "bases.yaml").write_text("BetaVAE: {beta: 2}\nBetaTCVAE: {beta: 4}\n")
    monkeypatch.setattr(gated, "HERE", tmp_path)
    return tmp_path / "out"


def run(output, *options):
    gated.main(["--data", "tiny", "--steps", "8", "--seeds", "0", "--output", str(output), *options])


def run_of(output, cell):
    """The folder of the run of a cell."""
    (found,) = (output / "runs").glob(f"{cell}-*")
    return found


def test_cells_are_run_once_and_an_interrupted_one_goes_on(tiny, monkeypatch, capsys):
    run(tiny, "--wrong", "0.5")
    assert "| gated | VAE | 0.5 | z |" in capsys.readouterr().out
    rows = sorted((tiny / "rows").iterdir())
    cells = ("gated-VAE-wrong0.5", "gated_targets-VAE-wrong0.5", "identity-VAE-wrong0", "ungated_pairs-VAE-wrong0.5")
    assert [path.stem for path in rows] == [f"{cell}-steps8-seed0" for cell in cells]
    scores = [json.loads(path.read_text())["elbo"] for path in rows]
    assert len(set(scores)) == 4  # wrong pairs, swaps, gates and pairs all reach the training
    first = json.loads(rows[0].read_text())
    measured = json.loads((run_of(tiny, rows[0].stem) / "metrics.json").read_text())["disentanglement"]
    assert first["information"] == measured["marginal_information"]["block_information"]
    assert first["swaps"] == {name: measured["swaps"][name] for name in ("given", "kept", "unswapped")}
    for names in ("blocks", "factors"):  # which are in the same order
        assert measured["marginal_information"][names] == first["block_factor"][names]
        assert measured["swaps"][names] == first["block_factor"][names]
    made = ("gated.csv", "gated.md", "gated.png", "gated_seeds.png", "gated_swaps.png")
    assert all((tiny / name).stat().st_size for name in made)

    kept = rows[0].read_text()
    rows[0].unlink()  # killed before it was measured, and another before its first checkpoint
    rows[3].unlink()
    shutil.rmtree(run_of(tiny, rows[3].stem) / "checkpoints")
    asked = []

    def command(arguments, run=gated.pyro_hfvae):
        asked.append(arguments)
        return run(arguments)

    monkeypatch.setattr(gated, "pyro_hfvae", command)
    run(tiny, "--wrong", "0.5")
    assert [arguments[0] for arguments in asked] == ["fit", "evaluate", "traverse"] * 2
    assert asked[0][1].startswith("--resume=")
    assert asked[3][1] == "--config"
    again, before = json.loads(rows[0].read_text()), json.loads(kept)
    assert again.pop("versions").keys() == before.pop("versions").keys()
    assert again == before


def test_a_run_of_other_settings_is_not_gone_on_with(tiny):
    cell, options = "identity-BetaVAE-wrong0-steps8-seed0", ["--conditions", "identity", "--bases", "BetaVAE"]
    run(tiny, *options)
    (tiny / "rows" / f"{cell}.json").unlink()  # killed before it was measured
    bases = tiny.parent / "tiny" / "bases.yaml"
    bases.write_text(bases.read_text().replace("beta: 2", "beta: 3"))
    run(tiny, *options)
    row = json.loads((tiny / "rows" / f"{cell}.json").read_text())
    folder = tiny / "runs" / f"{cell}-{row['configuration']}"
    assert yaml.safe_load((folder / "config.yaml").read_text())["objective"]["init_args"]["beta"] == 3
    assert len(list((tiny / "runs").iterdir())) == 2


def test_a_cell_of_another_process_is_left_to_it(tiny, capsys):
    left, run_here = (f"{condition}-VAE-wrong0-steps8-seed0" for condition in ("gated", "identity"))
    with FileLock(tiny / "locks" / left):
        run(tiny, "--conditions", "gated", "identity")
    assert f"left to another process: {left}\n" in capsys.readouterr().out
    assert [path.stem for path in (tiny / "rows").iterdir()] == [run_here]
    assert [path.name.rpartition("-")[0] for path in (tiny / "runs").iterdir()] == [run_here]


def test_a_cell_that_another_process_ends_meanwhile_is_not_run_again(tiny, monkeypatch):
    cell = "identity-VAE-wrong0-steps8-seed0"
    run(tiny, "--conditions", "identity")
    row = (tiny / "rows" / f"{cell}.json").read_text()
    (tiny / "rows" / f"{cell}.json").unlink()

    class Ended(FileLock):
        def __enter__(self):
            (tiny / "rows" / f"{cell}.json").write_text(row)  # after the first look at the rows
            return super().__enter__()

    monkeypatch.setattr(gated, "FileLock", Ended)
    monkeypatch.setattr(gated, "pyro_hfvae", None)  # a command would fail
    run(tiny, "--conditions", "identity")
    assert (tiny / "rows" / f"{cell}.json").read_text() == row


def test_rows_beside_the_settings_are_taken_until_the_settings_change(tiny, monkeypatch, capsys):
    options = ["--conditions", "gated", "identity"]
    run(tiny, *options)
    tables = [(tiny / name).read_text() for name in ("gated.csv", "gated.md")]
    (tiny.parent / "tiny" / "rows").mkdir()
    (last,) = (tiny / "rows").glob("identity*")
    shutil.move(last, tiny.parent / "tiny" / "rows")  # the order of the rows is not that of the folders
    run(tiny, *options)
    assert [(tiny / name).read_text() for name in ("gated.csv", "gated.md")] == tables
    for path in (tiny / "rows").iterdir():
        shutil.move(path, tiny.parent / "tiny" / "rows")
    shutil.rmtree(tiny)
    capsys.readouterr()
    run(tiny, *options)
    assert sorted(path.name for path in tiny.iterdir()) == [
        "gated.csv",
        "gated.md",
        "gated.png",
        "gated_seeds.png",
        "gated_swaps.png",
    ]  # and no run
    assert "| identity | VAE | 0 | z |" in capsys.readouterr().out
    identity = tiny.parent / "tiny" / "identity.yaml"
    identity.write_text(identity.read_text().replace("batch_size: 16", "batch_size: 15"))
    asked = []
    command = gated.pyro_hfvae
    monkeypatch.setattr(gated, "pyro_hfvae", lambda arguments: asked.append(arguments) or command(arguments))
    run(tiny, *options)
    assert [arguments[0] for arguments in asked] == ["fit", "evaluate", "traverse"]
    assert [path.stem for path in (tiny / "rows").iterdir()] == ["identity-VAE-wrong0-steps8-seed0"]

    def prints():
        return {base: gated.configuration("tiny", "identity", base) for base in ("VAE", "BetaVAE")}

    before = prints()  # the configurations name VAE themselves: what is said here of its weights is not for them
    (tiny.parent / "tiny" / "bases.yaml").write_text("VAE: {beta: 3}\nBetaVAE: {beta: 3}\n")
    assert prints()["VAE"] == before["VAE"]
    assert prints()["BetaVAE"] != before["BetaVAE"]


def test_the_objective_of_the_configuration_is_the_base_unless_another_is_asked_for(tiny, monkeypatch):
    config = tiny.parent / "tiny" / "identity.yaml"
    own = {"class_path": "pyro_hfvae.infer.BetaVAE", "init_args": {"beta": 0.5}}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"objective": own}))
    assert gated.settings("tiny", "identity", "BetaVAE") == gated.settings("tiny", "identity")
    run(tiny, "--conditions", "identity", "--bases", "BetaVAE", "BetaTCVAE")
    for base, beta in (("BetaVAE", 0.5), ("BetaTCVAE", 4)):
        folder = run_of(tiny, f"identity-{base}-wrong0-steps8-seed0")
        trained = yaml.safe_load((folder / "config.yaml").read_text())
        assert trained["objective"]["class_path"] == f"pyro_hfvae.infer.{base}"
        assert trained["objective"]["init_args"]["beta"] == beta
    # rows of a base that is no more are left out
    (tiny.parent / "tiny" / "bases.yaml").write_text("BetaVAE: {beta: 2}")
    assert {row["base"] for row in gated.read_rows(tiny, "tiny", 8).values()} == {"BetaVAE"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--bases", "VAE", "FactorVAE"],
            "no base FactorVAE for tiny: there are VAE, BetaVAE, BetaTCVAE; add it to bases.yaml",
        ),
        (["--wrong", "0", "1.5"], "a rate of wrong pairs is from 0 to 1, got 1.5"),
        (["--wrong", "nan"], "a rate of wrong pairs is from 0 to 1, got nan"),
        (["--steps", "0"], "a run has 1 step or more, got 0"),
    ],
)
def test_what_cannot_be_run_is_refused(tiny, capsys, options, said):
    with pytest.raises(SystemExit) as stopped:
        run(tiny, *options)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not tiny.exists()


def test_steps_are_those_of_the_configuration(tiny):
    run_without_steps = ["--data", "tiny", "--seeds", "0", "--conditions", "identity", "--output", str(tiny)]
    gated.main(run_without_steps)
    steps = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())["trainer"]["max_steps"]
    assert [path.stem for path in (tiny / "rows").iterdir()] == [f"identity-VAE-wrong0-steps{steps}-seed0"]


def test_a_run_that_fails_stops_the_command(tiny, capsys):
    (tiny.parent / "tiny" / "gated.yaml").write_text("model: nothing\nobjective: {class_path: pyro_hfvae.infer.VAE}")
    with pytest.raises(SystemExit) as stopped:
        run(tiny)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("pyro-hfvae: error: ")
    assert not (tiny / "rows").exists()


def test_there_are_folders():
    faces = ["cmu_faces", "cmu_faces_expression", "sfm_faces"]
    sprites = ["dsprites", "dsprites_concrete", "dsprites_concrete_long"]
    assert [folder.name for folder in FOLDERS] == sorted(faces + sprites)
    assert [folder.name for folder in WITH_TARGETS] == sorted({*faces, *sprites} - {"dsprites_concrete_long"})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_conditions_differ_in_pairs_and_gates_alone(folder):
    of_gated, ungated, identity = map(
        read, (folder / f"{name}.yaml" for name in ("gated", "ungated_pairs", "identity"))
    )
    pairs = of_gated["batches"]["pairs"]
    assert pairs["swap"] is True
    assert ungated["batches"]["pairs"].pop("gated") is False
    pairs.pop("gated_from", None)
    assert of_gated == ungated
    del of_gated["batches"]["pairs"]
    assert of_gated == identity


@pytest.mark.parametrize("folder", WITH_TARGETS, ids=lambda folder: folder.name)
def test_targets_differ_in_what_swaps_want(folder):
    of_gated, targets = read(folder / "gated.yaml"), read(folder / "gated_targets.yaml")
    of_swaps = ("swap", "identity", "identity_opens", "gated_from")
    targets["batches"]["pairs"].pop("identity")  # they want identity pairs that open all gates from the start
    left = {name: value for name, value in of_gated["batches"]["pairs"].items() if name not in of_swaps}
    assert of_gated | {"batches": of_gated["batches"] | {"pairs": left}} == targets


def test_the_long_run_is_the_short_one_four_times_as_slow():
    short, long = (
        read(ROOT / "experiments" / name / "gated.yaml") for name in ("dsprites_concrete", "dsprites_concrete_long")
    )

    def slowed(value, name=""):
        if isinstance(value, dict):
            return {key: slowed(inner, key) for key, inner in value.items()}
        if isinstance(value, list) and name == "at":
            return [4 * step for step in value]
        return 4 * value if name in {"steps", "total_steps", "max_steps", "val_check_interval", "gated_from"} else value

    assert slowed(short) == long


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*/*_trimmed.yaml")), ids=lambda p: f"{p.parent.name} {p.stem}"
)
def test_trimmed_differs_in_that_alone(path):
    twin = "gated.yaml" if path.stem.startswith("gated") else "ungated_pairs.yaml"
    trimmed, whole = (yaml.safe_load(p.read_text()) for p in (path, path.with_name(twin)))
    assert trimmed["training"].pop("trim") == {"pose": 0.4}
    assert trimmed | {"run": whole["run"]} == whole


CONFIGURATIONS = [path for path in sorted((ROOT / "experiments").rglob("*.yaml")) if path.name != "bases.yaml"]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_configurations_are_read(path):
    build_fit_parser().parse_args(["--config", str(path)])


@pytest.mark.parametrize(
    ("data", "base"), [(folder.name, base) for folder in FOLDERS for base in gated.bases(folder.name)]
)
def test_bases_are_read(data, base):
    objective = json.dumps(gated.settings(data, "gated", base)["objective"])
    config = build_fit_parser().parse_args(
        ["--config", str(gated.HERE / data / "gated.yaml"), f"--objective={objective}"]
    )
    assert config.objective.class_path == f"pyro_hfvae.infer.{base}"
    assert set(gated.bases(data)[base]) <= set(vars(config.objective.init_args))  # and none of the configuration's own
    assert not {"between", "dimension"} & set(vars(config.objective.init_args)) - set(gated.bases(data)[base])
