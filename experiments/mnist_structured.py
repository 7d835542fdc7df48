"""Structured priors of MNIST under weights above 1: whether the objective stays bounded, and what q(z) becomes.

Usage: python -m pyro_hfvae.experiments.mnist_structured --seeds 0 1 [--data FOLDER]

Trains five pairs of Gaussians with a learned correlation in each pair (``within`` 5), one block of ten with learned
correlations (``within`` 5), a chain of two blocks (``between`` 5, ``within`` 3) and a mixture whose components are
learned (``between`` 5, ``within`` 3), each for 5,000 steps with a memory of 4,096 posteriors, and once with the batch
as the only reference. Every step's terms are kept. After the last step come the exact terms, the mixture of the
posteriors of all 60,000 images at five samples of 1,000, and spread and correlation of q(z) beside those of the prior.
Every cell is kept in rows/CELL.json and not run again; from all rows the command makes mnist_structured.md and .png.
"""

import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_hfvae import HierarchicalELBO, Memory, Terms
from pyro_hfvae.data import MNIST, IndexBatches
from pyro_hfvae.experiments.cells import about, head, kept_cell, line
from pyro_hfvae.experiments.mnist_training import SAMPLES, N, exact_terms, steps, study_parser
from pyro_hfvae.files import write_atomically, write_figure
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import EstimateWarning, Marginal, Minibatch
from pyro_hfvae.models import CorrelatedModel, HierarchicalModel, MixtureModel, MLPDecoder, StructuredModel

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

PAIRS = {f"pair{number}": 2 for number in range(5)}
STYLE, CHAIN, DIGIT = {"style": 10}, {"top": 5, "style": 10}, {"digit": 10}
WEIGHTS = {"within": 5.0}, {"between": 5.0, "within": 3.0}
PRIORS: dict[str, tuple[Callable[[], StructuredModel], dict[str, int], dict[str, int], dict[str, Any]]] = {
    "five pairs": (lambda: CorrelatedModel(PAIRS, {}, decoder=MLPDecoder), PAIRS, {}, WEIGHTS[0]),
    "block of ten": (lambda: CorrelatedModel(STYLE, {}, decoder=MLPDecoder), STYLE, {}, WEIGHTS[0]),
    "chain": (lambda: HierarchicalModel(CHAIN, {}, decoder=MLPDecoder), CHAIN, {}, WEIGHTS[1]),
    "mixture": (
        lambda: MixtureModel(STYLE, DIGIT, {"style": "digit"}, decoder=MLPDecoder),
        STYLE,
        DIGIT,
        # A discrete block whose information is charged collapses before the decoder uses it.
        WEIGHTS[1] | {"mutual_information": {"digit": 0.0, "style": 1.0}},
    ),
}
"""Name to model, sizes of Gaussian and of discrete sites, and the weights that are not 1."""

MARGINALS: dict[str, Callable[[], Marginal]] = {"Memory(4096)": lambda: Memory(4096), "Minibatch": Minibatch}
EVERY, DRAWS, EXACT = 50, 10_000, 5
VARIABLE = "ii of "
"""Before the name of a variable whose KL it is."""

Cell = dict[str, Any]


def divergences(terms: Terms) -> dict[str, Tensor]:
    """What cannot be below 0: dependence terms with their normalisers, and the divergences of the variables."""
    found = {"A + log Z": terms.between + terms.log_normaliser}
    found["i + log Z"] = torch.stack([block.within + block.log_normaliser for block in terms.blocks.values()]).sum()
    every = {name: term.dimension for block in terms.blocks.values() for name, term in block.variables.items()}
    return found | {"ii": terms.dimension} | {f"{VARIABLE}{name}": value for name, value in every.items()}


def numbers(terms: Terms) -> dict[str, float]:
    """Terms and divergences as plain numbers."""
    names = ("reconstruction", "mutual_information", "between", "within", "dimension")
    found = {name: getattr(terms, name) for name in names} | divergences(terms)
    return {name: value.item() for name, value in found.items()}


def least(row: dict[str, list[float]]) -> list[float]:
    """The lowest KL of a variable, and its standard error."""
    return min(value for name, value in row.items() if name.startswith(VARIABLE))


def with_errors(rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and its standard error of each number."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    errors = {name: statistics.stdev(values) / math.sqrt(len(values)) for name, values in columns.items()}
    return {name: [statistics.fmean(values), errors[name]] for name, values in columns.items()}


@torch.no_grad()
def latents(program: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """A sample of each Gaussian site for each image, [B, V]."""
    nodes: Any = poutine.trace(program).get_trace(images).nodes
    return {name: nodes[name]["value"] for name in names}


def spread_and_correlation(values: dict[str, Tensor]) -> tuple[list[float], list[float]]:
    """The standard deviation of every variable, and the correlations of all pairs, those of a site first."""
    joint = torch.cat(list(values.values()), 1)
    place = torch.cat([torch.full((value.shape[1],), number) for number, value in enumerate(values.values())])
    matrix = torch.corrcoef(joint.T)
    inside = (place[:, None] == place).triu(1)
    across = (place[:, None] != place).triu(1)
    return joint.std(0).tolist(), torch.cat([matrix[inside], matrix[across]]).tolist()


def measure(prior: str, marginal: str, count: int, batch_size: int, seed: int, mnist: MNIST) -> tuple[Cell, int]:
    """A training, and the number of its steps."""
    make, gaussian, discrete, weights = PRIORS[prior]
    torch.manual_seed(seed)
    model, guide = make(), ImageGuide(gaussian, discrete, encoder=MLPEncoder)
    module = HierarchicalELBO(N, marginal=MARGINALS[marginal](), **weights)(model, guide)
    rows, window = [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EstimateWarning)
        for step, terms in enumerate(steps(module, IndexBatches(torch.arange(N), batch_size, seed=seed), mnist), 1):
            window.append(numbers(terms))
            if step % EVERY == 0:
                rows.append(with_errors(window) | {"step": [step, 0.0]})
                window.clear()
            if step % 500 == 0:
                print(f"{prior}, {marginal}, seed {seed}, step {step}: {rows[-1]}", flush=True)
            if step == count:
                break
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, EstimateWarning)]
    exact = with_errors([numbers(exact_terms(model, guide, mnist, place, **weights)) for place in range(EXACT)])
    images = mnist.images(torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:DRAWS])
    both = [spread_and_correlation(latents(program, list(gaussian), images)) for program in (guide, model)]
    content: Cell = {"prior": prior, "marginal": marginal, "weights": weights, "batch_size": batch_size, "rows": rows}
    content |= {"exact": exact, "warnings": messages}
    content |= {"spread": [both[0][0], both[1][0]], "correlation": [both[0][1], both[1][1]]}
    return content, count


def picture(cells: Sequence[Cell]) -> Figure:
    """A column for each prior: its terms over the steps, and spread and correlation of q(z) against the prior's."""
    priors = list(dict.fromkeys(cell["prior"] for cell in cells))
    figure, axes = plt.subplots(
        2, len(priors), figsize=(3.3 * len(priors), 6.2), dpi=110, layout="constrained", squeeze=False
    )
    for column, prior in enumerate(priors):
        group = [cell for cell in cells if cell["prior"] == prior and cell["marginal"] != "Minibatch"]
        top, bottom = axes[:, column]
        for cell in group:
            for color, name in enumerate(("A + log Z", "i + log Z", "ii")):
                x = [row["step"][0] for row in cell["rows"]]
                label = name if cell is group[0] else None
                top.plot(x, [row[name][0] for row in cell["rows"]], color=f"C{color}", linewidth=1, label=label)
            for color, name in ((3, "spread"), (4, "correlation")):
                label = name if cell is group[0] else None
                bottom.plot(*reversed(cell[name]), ".", color=f"C{color}", markersize=3, label=label)
        top.axhline(0, color="black", linewidth=0.5)
        top.set(title=prior, xlabel="step")
        bottom.axline((0, 0), slope=1, color="black", linewidth=0.5)
        bottom.set(xlabel="of the prior")
    axes[0, 0].set_ylabel("nats per datum")
    axes[1, 0].set_ylabel("of q(z)")
    for axis in axes[:, 0]:
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    return figure


def table(cells: Sequence[Cell]) -> str:
    """A line for each cell: exact terms after the last step, spread and correlation, and warnings."""
    names = ["reconstruction", "mutual_information", "A + log Z", "i + log Z", "ii"]
    titles = ["E[log p(x|z)]", "I(x; z)", "A + log Z", "i + log Z", "ii", "least KL of a variable"]
    columns = ["prior", "estimator", "seed", *titles, "logged least KL", "spread of z, q / p"]
    lines = head([*columns, "correlation, mean \\|.\\| of q / p", "rms difference", "warned"])
    for cell in cells:
        exact = [cell["exact"][name] for name in names]
        values = [f"{mean:.2f} ± {error:.2f}" for mean, error in exact]
        values += [f"{mean:.3f} ± {error:.3f}" for mean, error in [least(cell["exact"])]]
        logged = min(least(row) for row in cell["rows"])
        spread = " / ".join(f"{statistics.fmean(one):.2f}" for one in cell["spread"])
        of_q, of_p = cell["correlation"]
        mean = " / ".join(f"{statistics.fmean(map(abs, one)):.2f}" for one in (of_q, of_p))
        rms = math.sqrt(statistics.fmean((one - other) ** 2 for one, other in zip(of_q, of_p, strict=True)))
        rest = [f"{logged[0]:.3f} ± {logged[1]:.3f}", spread, mean, f"{rms:.2f}"]
        warned = "; ".join(sorted({message.split(":")[0] for message in cell["warnings"]})) or "no"
        lines.append(line([cell["prior"], cell["marginal"], str(cell["seed"]), *values, *rest, warned]))
    first = cells[0]
    note = (
        f"MNIST, {first['rows'][-1]['step'][0]:,} steps of {first['batch_size']} images. Terms: nats, mean ± standard "
        f"error of {EXACT} samples of {SAMPLES:,} images against all {N:,} posteriors, after the last step; the logged "
        f"least KL is the lowest mean of {EVERY} steps. Spread: mean standard deviation of the variables of {DRAWS:,} "
        f"samples; correlations: of all pairs of variables. {about(cells)}"
    )
    return "\n".join([*lines, "", note]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the table and the picture."""
    parser = study_parser(__doc__, "runs/mnist_structured")
    parser.add_argument("--priors", choices=list(PRIORS), nargs="+", default=list(PRIORS))
    parser.add_argument("--marginals", choices=list(MARGINALS), nargs="+", default=list(MARGINALS))
    parser.add_argument("--steps", type=int, default=5_000)
    options = parser.parse_args(arguments)

    mnist = MNIST(options.data)
    cells = []
    for seed in options.seeds:
        for marginal in options.marginals:
            for prior in options.priors:
                cell = f"{prior.replace(' ', '_')}-{marginal}-steps{options.steps}-batch{options.batch_size}-seed{seed}"
                run = partial(measure, prior, marginal, options.steps, options.batch_size, seed, mnist)
                cells.append(kept_cell(options.output, cell, seed, run))
    cells.sort(key=lambda cell: (list(PRIORS).index(cell["prior"]), cell["marginal"], cell["seed"]))
    write_atomically(options.output / "mnist_structured.md", table(cells))
    write_figure(options.output / "mnist_structured.png", picture(cells))
    print(table(cells))


if __name__ == "__main__":
    main()
