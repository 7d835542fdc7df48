"""Run folders without training, for tests of the report."""

import copy
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from pyro_hfvae.metrics import Codes, write_shared_codes
from pyro_hfvae.plot import image_grid

TERMS = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")
VERSIONS = {"pyro_hfvae": "0.1.0", "torch": "2.13.0", "processor": "CPU of a test", "seed": 7, "wall_seconds": 3725.0}

METRICS = {
    "data": {"name": "DSprites", "held_out": 10000, "data_size": 727280},
    "step": 3000,
    "terms": {
        **{"elbo": -30.17, "reconstruction": -20.31, "mutual_information": 8.14},
        **{"between": 0.41, "within": 0.32, "dimension": 0.99},
        "active_above": 0.01,
        "blocks": {
            "pose": {
                "active": True,
                **{"mutual_information": 5.21, "within": 0.33, "dimension": 0.45},
                "variables": {
                    "pose[0]": {"active": True, "mutual_information": 2.61, "dimension": 0.11},
                    "pose[1]": {"active": True, "mutual_information": 2.72, "dimension": 0.34},
                },
            },
            "kind": {
                "active": True,
                **{"mutual_information": 1.07, "within": 0.0, "dimension": 0.54},
                "variables": {"kind": {"active": True, "mutual_information": 1.07, "dimension": 0.54}},
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
        "swaps": {
            "data": 5000,
            "blocks": ["pose", "kind"],
            "factors": ["shape", "x", "orientation"],
            "given": [[0.34, 0.931, -0.97], [0.89, -0.98, -0.96]],
            "kept": [[0.91, -0.99, 0.04], [0.35, 0.94, 0.03]],
            "unswapped": [0.92, 0.947, 0.05],
            "chance": [0.333, 0.0, 0.0],
            "measure": ["accuracy", "r2", "r2"],
        },
        "marginal_information": {
            "data": 5000,
            "samples": 1000,
            "variables": ["pose[0]", "pose[1]", "kind"],
            "blocks": ["pose", "kind"],
            "factors": ["shape", "x", "orientation"],
            "variable_information": [[0.11, 2.02, 0.33], [0.12, 0.21, 0.35], [1.04, 0.01, 0.04]],
            "variable_error": [[0.01, 0.03, 0.01], [0.01, 0.01, 0.01], [0.0, 0.0, 0.0]],
            "variable_lower": [[0.02, 2.0, 0.0], [0.0, 0.0, 0.05], [1.04, 0.01, 0.04]],
            "block_information": [[0.22, 2.15, 0.68], [1.04, 0.01, 0.04]],
            "block_lower": [[0.0, 2.1, 0.08], [1.04, 0.01, 0.04]],
            "block_error": [[0.01, 0.02, 0.01], [0.0, 0.0, 0.0]],
        },
    },
}


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
    """A run with metrics, versions, a configuration, pictures and perhaps curves."""
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


def make_seed(run: Path, metrics, seed: int, between: float, elbo: float, disentanglement: float) -> Path:
    """A run as one of several: numbers of its own, curves at two steps, a traversal of a block, and codes."""
    metrics = copy.deepcopy(metrics)
    metrics["terms"]["elbo"] = elbo
    metrics["disentanglement"]["scores"] = {
        "dci.disentanglement": {"value": disentanglement, "chance": 0.01, "low": 0.0, "high": 0.02},
        "mig": {"value": None, "chance": None, "low": None, "high": None},
    }
    make_run(run, metrics, pictures=("traversal_pose",))
    (run / "versions.json").write_text(json.dumps(VERSIONS | {"seed": seed}))
    objective = {"class_path": "pyro_hfvae.HierarchicalELBO", "init_args": {"between": between, "within": 3.0}}
    config = {"run": str(run), "resume": None, "seed": seed, "objective": objective}
    (run / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    heads = ["step", *(f"val/{term}" for term in TERMS)]
    rows = [[step, *(elbo + step / 100 for _ in TERMS)] for step in (100, 200)]
    (run / "metrics.csv").write_text("\n".join(",".join(map(str, row)) for row in [heads, *rows]) + "\n")
    rng = np.random.default_rng(0)
    columns = np.hstack([rng.normal(size=(50, 2)), np.full((50, 3), 1 / 3)])
    turned = columns[:, [1, 0, 2, 3, 4]] if seed % 2 else columns  # another seed finds them in another order
    codes = Codes(turned, ("pose[0]", "pose[1]", "kind"), ((0,), (1,), slice(2, 5)), {"pose": (0, 1), "kind": (2,)})
    write_shared_codes(run / "codes.npz", codes, np.arange(50))
    return run
