"""What shows how far a training is."""

from types import SimpleNamespace

import torch

from pyro_hfvae.train import progress
from pyro_hfvae.train.progress import ProgressLines, TermsProgressBar


def test_a_bar_in_a_terminal_only(monkeypatch):
    for terminal, kind in ((True, TermsProgressBar), (False, ProgressLines)):
        monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda terminal=terminal: terminal, closed=False))
        assert type(progress.progress()) is kind
    monkeypatch.setattr("sys.stdout", None)
    assert type(progress.progress()) is ProgressLines


def test_a_line_now_and_then(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = ProgressLines()
    metrics = {"train/elbo": torch.tensor(-3.25), "train/mutual_information/z": torch.tensor(1.0)}
    trainer = SimpleNamespace(global_step=0, max_steps=1200, progress_bar_metrics=metrics)
    for step in range(1, 101):
        now += 1.0
        trainer.global_step = step
        lines.on_train_batch_end(trainer)
    lines.on_train_end(trainer)
    lines.on_train_end(trainer)
    assert capsys.readouterr().out.splitlines() == [f"step {step} of 1,200, elbo=-3.25" for step in (30, 60, 90, 100)]
