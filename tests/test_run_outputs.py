import json

import pytest
import torch

from pyro_hfvae.run_outputs import OUTPUT_FILES, output_step, record_files, trained_steps


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


@pytest.mark.parametrize(("content", "said"), [("{", "is not JSON: "), ("[1]", "holds no mapping of names to values")])
def test_a_broken_record_is_named(tmp_path, content, said):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=rf"metrics\.json {said}"):
        output_step(tmp_path, "evaluate")


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
