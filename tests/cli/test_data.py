"""The subcommand ``data``: what it prints of known sets, files and classes, and what is wrong in one line."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from pyro_hfvae.cli import main
from pyro_hfvae.data import BasicMotions, catalogue
from pyro_hfvae.data.catalogue import Entry
from pyro_hfvae.data.known_file import KnownFile

SERIES = b"@classLabel true u d\n@data\n1,2,4:u\n3,1:d\n"
PATIENTS = "age,city,seen,ill\n20.5,Bonn,2024-01-01,yes\n,Aachen,2024-01-03,no\n40.5,,2024-01-05,no\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root, and a catalogue of one set of series whose files have an address."""
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(SERIES).hexdigest()
    files = tuple(KnownFile(f"motions/{name}.ts", digest, f"https://example.org/{name}.ts") for name in "ab")
    entry = Entry("motions", BasicMotions, "sequences", "4 of 2 to 3 × 1", files)
    drawn = next(entry for entry in catalogue.CATALOGUE if entry.name == "dsprites")
    monkeypatch.setattr(BasicMotions, "files", files)
    monkeypatch.setattr(catalogue, "CATALOGUE", (drawn, entry))
    monkeypatch.setattr(
        "pyro_hfvae.data.known_file.pooch.retrieve",
        lambda url, known_hash, fname, path: (path / fname).write_bytes(SERIES),
    )
    return tmp_path / "root"


def test_list_fetch_verify_and_info(root, capsys):
    def printed(*arguments):
        assert main(["data", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    assert printed("verify") == [f"no files of known data sets in {root}"]
    before = printed("list")
    assert before[0].split() == ["name", "kind", "size", "here", "licence"]
    assert before[1].startswith("dsprites  images     737,280 of 1 × 64 × 64  drawn  Apache-2.0")
    assert before[2].startswith("motions   sequences  4 of 2 to 3 × 1         no     none stated")
    assert before[3] == f"files: {root}"
    assert printed("fetch", "motions", "dsprites") == ["motions: here", "dsprites: no files to fetch"]
    assert " yes " in printed("list")[2]
    assert printed("verify") == ["motions: SHA-256 of 2 files as expected"]
    assert printed("verify", "dsprites") == ["dsprites: drawn, no file"]
    assert printed("info", "motions") == [
        "BasicMotions: 4 data",
        "tensors: x float32 [3, 1], lengths int64 []",
        "held out: 2",
        "features: x0",
        "lengths: 2 to 3",
        "factors:",
        "  name   kind         missing  values",
        "  class  categorical  0        2: d, u",
        "licence: none stated; distributed with sktime (BSD-3-Clause)",
        "citation: Bagnall et al., The UEA multivariate time series classification archive, 2018, arXiv:1811.00075",
    ]


def test_info_of_a_table(root, tmp_path, capsys):
    (tmp_path / "patients.csv").write_text(PATIENTS)
    assert main(["data", "info", "patients.csv", "--arguments", "{factors: [ill], held_out: [1]}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Table: 3 data",
        "tensors: x float32 [3]",
        "held out: 1",
        "columns:",
        "  name  kind      missing  values",
        "  age   number    1        mean 30.5, deviation 10",
        "  city  category  1        Aachen, Bonn",
        "  seen  time      0        mean 2024-01-03 00:00:00, deviation 2 days",
        "factors:",
        "  name  kind         missing  values",
        "  ill   categorical  0        2: no, yes",
    ]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.npz", {"images": np.full((3, 4, 4), 200, np.uint8)}, "ImageFile: 3 data"),
        (
            "a.npz",
            {"x": np.random.default_rng(0).normal(size=(3, 4, 2)), "lengths": np.array([1, 4, 2])},
            "Sequences: 3",
        ),
        ("a.npz", {"data": [1, 2], "indices": [0, 1], "indptr": [0, 1, 2], "shape": [2, 2]}, "Counts: 2 data"),
        ("a.npz", {"x": np.eye(3) * 2.5}, "Table: 3 data"),
        ("a.npy", np.eye(3) * 2.5, "Table: 3 data"),
    ],
)
def test_files_are_read_by_what_they_hold(root, tmp_path, capsys, name, content, kind):
    if name == "a.npz":
        np.savez(tmp_path / name, **content)
    else:
        np.save(tmp_path / name, content)
    assert main(["data", "info", name]) == 0
    assert capsys.readouterr().out.startswith(kind)


def test_many_features_and_continuous_factors(root, tmp_path, capsys):
    np.savez(
        tmp_path / "c.npz", data=np.ones(20), indices=np.arange(20), indptr=[0, 10, 20], shape=[2, 20], depth=[0.5, 2.0]
    )
    assert main(["data", "info", "c.npz", "--arguments", "{factors: [depth]}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "features: x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, ... (20 in all)" in lines
    assert "  depth  continuous  0        0.5 to 2" in lines


def test_classes_of_ones_own(root, capsys):
    assert main(["data", "info", "support.TinyImages", "--arguments", "{size: 50}"]) == 0
    assert capsys.readouterr().out.startswith("TinyImages: 50 data\ntensors: x float32 [1, 8, 8]\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], 'expected "data.action" to be one of {list,info,fetch,verify}, but it was not provided'),
        (["fetch"], "the following arguments are required"),
        (["fetch", "mnists"], "there is no data set 'mnists'; known are: dsprites, motions"),
        (["verify", "mnists"], "there is no data set 'mnists'"),
        (["verify", "motions"], "a.ts': pyro-hfvae data fetch motions"),
        (["info", "motions"], "a.ts': pyro-hfvae data fetch motions"),
        (
            ["info", "mnists"],
            "'mnists' is no file, no class that can be imported (No module named 'mnists') and none of d",
        ),
        (["info", "nothing.csv"], "no data at 'nothing.csv' in the current folder, nor"),
        (
            ["info", "./a.jpg"],
            "'./a.jpg' ends in none of .npz, .h5ad, .ts, .csv, .tsv, .txt, .parquet, .pq, .npy: name",
        ),
        (
            ["info", "bad.csv"],
            "'bad.csv' cannot be read as a csv file: line 2 has 1 values, but the first line 2 names",
        ),
        (["info", "bad.npz"], "'bad.npz' cannot be read as an npz file: File is not a zip file"),
        (
            ["info", "pyro_hfvae.data.Table"],
            "pyro_hfvae.data.table.Table: missing a required argument: 'source'; give --a",
        ),
        (
            ["info", "bad.csv", "--arguments", "{factor: [a]}"],
            "got an unexpected keyword argument 'factor'; give --argum",
        ),
        (["info", "bad.csv", "--arguments", "[a]"], "expected dict"),
        (["info", "os.path"], "is no class of data"),
        (["info", "pyro_hfvae.data.render"], "missing a required argument"),
        (["info", "pyro_hfvae.data.data_root"], "makes a PosixPath, expected a Data"),
    ],
)
def test_what_is_wrong_ends_in_one_line(root, tmp_path, capsys, arguments, message):
    (tmp_path / "bad.csv").write_text("a,b\n1\n")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    assert main(["data", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_damage_is_found(root, capsys):
    assert main(["data", "fetch", "motions"]) == 0
    (root / "motions" / "b.ts").write_bytes(SERIES + b"1,1:u\n")
    capsys.readouterr()
    assert main(["data", "verify", "motions", "dsprites"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "dsprites: drawn, no file\n"
    assert "motions/b.ts' has the SHA-256" in captured.err


def test_the_catalogue_has_no_name_twice():
    names = [entry.name for entry in catalogue.CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(entry.make.licence and entry.make.citation for entry in catalogue.CATALOGUE)


def test_a_frame_is_described_as_well():
    from pyro_hfvae.cli.data import describe
    from pyro_hfvae.data import Table

    assert describe(Table(pd.DataFrame({"a": [0, 1, 2]})))[3:] == [
        "columns:",
        "  name  kind   missing  values",
        "  a     count  0",
        "factors: none",
    ]
