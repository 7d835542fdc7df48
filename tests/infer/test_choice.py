"""The estimator is chosen by import path, in a configuration or on the command line."""

from pyro_hfvae.infer import Memory, Minibatch
from pyro_hfvae.train.configuration import build_fit_parser, build_objective

ARGUMENTS = ["--run", "r", "--model", "support.NaNGuide", "--guide", "support.NaNGuide", "--data", "support.TinyImages"]


def built(*options):
    parser = build_fit_parser()
    built = parser.instantiate(parser.parse_args([*ARGUMENTS, *options]))
    return build_objective(built.objective, data_size=10).marginal


def test_the_papers_estimator_is_the_default():
    assert isinstance(built(), Minibatch)


def test_another_is_named_by_its_class_path(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("objective:\n  marginal:\n    class_path: pyro_hfvae.infer.Memory\n    init_args: {size: 77}\n")
    for options in (["--config", str(config)], ["--objective.marginal", "Memory", "--objective.marginal.size", "77"]):
        marginal = built(*options)
        assert isinstance(marginal, Memory)
        assert marginal.size == 77
