import json

import pytest
import torch

from pyro_hfvae.run_outputs import OUTPUT_FILES, output_step, read_json, record_files, refuse_links, trained_steps


def checkpoint(run, content):
    (run / "checkpoints").mkdir(exist_ok=True)
    torch.save(content, run / "checkpoints" / "last.ckpt")


def test_steps_of_the_newest_checkpoint(tmp_path):
    assert trained_steps(tmp_path) is None
    checkpoint(tmp_path, {"global_step": 7, "state_dict": {"w": torch.ones(3)}})
    assert trained_steps(tmp_path) == 7
    checkpoint(tmp_path, {"state_dict": {}})
    assert trained_steps(tmp_path) is None
    checkpoint(tmp_path, {"global_step": 7})
    path = tmp_path / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[content.index(b"global_step") + 14] ^= 1  # the step itself
    path.write_bytes(content)
    assert trained_steps(tmp_path) is None
    path.write_bytes(b"cut short")
    assert trained_steps(tmp_path) is None


def test_each_part_says_its_step(tmp_path):
    for number, (command, file) in enumerate(OUTPUT_FILES.items()):
        assert output_step(tmp_path, command) is None
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")  # of an earlier version
        assert output_step(tmp_path, command) is None
        (tmp_path / file).write_text(json.dumps({"step": number}))
        assert output_step(tmp_path, command) == number


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON: "),
        (b"", "is not JSON: "),
        (b"[" * 100_000, "is not JSON: "),
        (b"[1]", "holds no mapping of names to values"),
        (b"\xff\xfe", "is no text in UTF-8: "),
    ],
)
def test_a_damaged_record_is_named_and_written_anew(tmp_path, content, said):
    for file in ("metrics.json", "drawn.json"):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file}'? {said}"):
            read_json(tmp_path / file)
    assert output_step(tmp_path, "evaluate") is None
    record_files(tmp_path, 3, ["a.png"])
    assert read_json(tmp_path / "drawn.json") == {"step": 3, "files": ["a.png"]}


@pytest.mark.parametrize("step", ["3", [3], None, {"a": 1}])
def test_a_step_that_is_no_number_is_none(tmp_path, step):
    (tmp_path / "metrics.json").write_text(json.dumps({"step": step}))
    assert output_step(tmp_path, "evaluate") is None


def test_a_record_reaches_no_file_but_pictures_of_its_folder(tmp_path):
    folder = tmp_path / "run" / "pictures"
    (folder / "inner").mkdir(parents=True)
    victims = [tmp_path / "a.png", folder.parent / "b.png", folder / "inner" / "c.png", folder / "d.txt"]
    for victim in victims:
        victim.write_text("of the user")
    (folder / "old.png").write_text("of step 1")
    names = ["../../a.png", str(tmp_path / "a.png"), "../b.png", "inner/c.png", "inner", "..", ".", "", "d.txt"]
    names += ["old.png", "gone.png", 3, None, ["old.png"]]
    for files in (names, "old.png", {"old.png": 1}):
        (folder / "drawn.json").write_text(json.dumps({"step": 1, "files": files}))
        record_files(folder, 2, ["new.png"])
        assert read_json(folder / "drawn.json") == {"step": 2, "files": ["new.png"]}
        assert all(victim.read_text() == "of the user" for victim in victims)
    assert not (folder / "old.png").exists()


def test_links_out_of_a_run_are_refused(tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run / "pictures", outside):
        folder.mkdir(parents=True)
    (run / "metrics.csv").write_text("step\n")
    (run / "inside.csv").symlink_to("metrics.csv")
    (tmp_path / "best").symlink_to(run)
    refuse_links(run)
    refuse_links(tmp_path / "best")  # the run itself may be found by a link
    for place, target in (("checks", outside), ("pictures/a.png", tmp_path / "gone"), ("metrics.json", "../outside")):
        (run / place).symlink_to(target)
        with pytest.raises(ValueError, match=rf"^'{run / place}' is a link that leads out of the run folder: "):
            refuse_links(run)
        (run / place).unlink()


def test_what_was_drawn_at_another_step_goes(tmp_path):
    """With the files that the record names, and no others."""

    def draw(step, *names):
        for name in names:
            (tmp_path / name).write_text(f"{step}")
        record_files(tmp_path, step, names)
        return {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "drawn.json"}

    (tmp_path / "mine.png").write_text("of the user")
    assert draw(1, "a.png", "b.png") == {"mine.png": "of the user", "a.png": "1", "b.png": "1"}
    assert draw(1, "a.png") == {"mine.png": "of the user", "a.png": "1", "b.png": "1"}  # of the same step
    assert draw(2, "a.png", "c.png") == {"mine.png": "of the user", "a.png": "2", "c.png": "2"}
    assert json.loads((tmp_path / "drawn.json").read_text()) == {"step": 2, "files": ["a.png", "c.png"]}
    (tmp_path / "a.png").unlink()  # by the user
    assert draw(3, "c.png") == {"mine.png": "of the user", "c.png": "3"}


@pytest.mark.parametrize("target", ["metrics.csv", "not_there.csv"])
def test_links_to_nowhere_are_refused(tmp_path, target):
    (tmp_path / "metrics.csv").symlink_to(target)
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 'metrics.csv'}' is a link that leads nowhere: "):
        refuse_links(tmp_path)
