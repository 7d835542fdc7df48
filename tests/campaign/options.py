"""Options of the command line, and the paths that they name."""

from pathlib import Path
from random import Random

from campaign.configurations import OUT_OF_RANGE, leaves, misspelt, wrong_type
from campaign.inputs import COMMANDS, base
from campaign.judge import Expected, Mutation, Rule

__all__ = ["RULES"]

FIT = COMMANDS["fit"]

WRONG = {
    "evaluate": {
        "--samples": ("0", "-1", "7", "1.5", "nan", "many", "", "[3]", "null"),
        "--term_samples": ("0", "-1", "1", "1.5", "inf", "many", "", "null"),
        "--permutations": ("-1", "1", "0.5", "few", "", "null"),
        "--seed": ("-1", str(2**32), "1.5", "one", "", "null"),
    },
    "traverse": {
        "--columns": ("0", "1", "-3", "2.5", "wide", "", "31", str(10**12)),
        "--image": ("-1", "100", "1.5", "first", "", str(10**30)),
        "--seed": ("-1", str(2**32), "1.5", "one", "", "null"),
    },
    "check": {
        "--data": ("0", "-1", "1.5", "all", "", "null"),
        "--draws": ("0", "24", "-1", "1.5", "many", "", "null"),
        "--predictive_draws": ("0", "38", "-1", "1.5", "", "null"),
        "--simulations": ("0", "-1", "1.5", "some", "", "null"),
        "--aggregate_data": ("0", "19", "-1", "1.5", "", "null"),
        "--nuts_data": ("-1", "1.5", "one", "", "null"),
        "--seed": ("-1", str(2**32), "", "null"),
    },
}
"""Values that the help of each option excludes."""


def _key(name: str) -> str:
    """How an option is written: the arguments of a class stand directly below it."""
    return "--" + name.replace(".init_args", "")


def value_of_fit(rng: Random, work: Path) -> Mutation:
    """An option of ``fit`` has a value of another type or out of its range."""
    if rng.random() < 0.5:
        name = rng.choice([*OUT_OF_RANGE])
        value = rng.choice(OUT_OF_RANGE[name])
    else:
        key, old = rng.choice([*leaves(base())])
        name, value = ".".join(map(str, key)).removesuffix(".class_path"), wrong_type(rng, old)
    option = _key(name)
    names = (*name.split(".")[-3:], str(value), "schedule", "batch size", "the guide", "observed site")
    return Mutation(f"{option} {value}", (*FIT, f"{option}={value}"), Expected.REFUSED, names)


def value_of_others(rng: Random, work: Path) -> Mutation:
    """An option of ``evaluate``, ``traverse`` or ``check`` has a value that its help excludes."""
    command = rng.choice([*WRONG])
    option = rng.choice([*WRONG[command]])
    value = rng.choice(WRONG[command][option])
    names = (option, option[2:], option[2:].replace("_", " "), value or "''")
    return Mutation(f"{option}={value}", (*COMMANDS[command], f"{option}={value}"), Expected.REFUSED, names)


def spelling(rng: Random, work: Path) -> Mutation:
    """An option is misspelt."""
    command = rng.choice(["fit", *WRONG])
    known = [_key(".".join(map(str, key))) for key, _ in leaves(base())] if command == "fit" else [*WRONG[command]]
    option = rng.choice([name for name in known if not name.endswith("class_path")])
    new = "--" + misspelt(rng, option[2:])
    return Mutation(new, (*COMMANDS[command], f"{new}=1"), Expected.REFUSED, (new, *new[2:].split(".")))


def arguments(rng: Random, work: Path) -> Mutation:
    """An argument too many, too few, at another place, or of another command."""
    command = [*COMMANDS[rng.choice(["fit", "resume", "evaluate", "traverse", "check", "report"])]]
    kind = rng.choice(["stray", "no value", "no command", "other command", "no run"])
    if kind == "stray":
        command.append(rng.choice(["--", "-x", "--no", "-", "--config", "--help=x"]) + "stray")
    elif kind == "no value":
        command += [
            rng.choice({"fit": ["--seed", "--config", "--run"], "report": ["--output"]}.get(command[0], ["--seed"]))
        ]
    elif kind == "no command":
        command = command[1:]
    elif kind == "other command":
        command = [misspelt(rng, command[0]), *command[1:]]
    else:
        command = [command[0]]
    return Mutation(kind, command, Expected.REFUSED)


def no_run(rng: Random, work: Path) -> Mutation:
    """What is named as a run is none."""
    (work / "empty").mkdir()
    (work / "loop").symlink_to("loop")
    names = [
        "missing",
        "empty",
        "loop",
        "notes.txt",
        "run/config.yaml",
        "idx",
        "",
        "\0",
        "x" * 300,
        "x/" * 3000,
        "~nobody/run",
    ]
    name = rng.choice([*names, "/dev/null", "run/checkpoints", "évidence", "-", "run\n", "stranger.py/run"])
    command = [*COMMANDS[rng.choice(["resume", "evaluate", "traverse", "check", "report", "load"])]]
    place = command.index("run")
    command[place] = name
    return Mutation(f"run {name[:40]!r}", command, Expected.REFUSED)


def place_of_a_run(rng: Random, work: Path) -> Mutation:
    """A new run has a name that is unusual and possible."""
    letters = [
        "a",
        "é",
        " ",
        "%",
        "#",
        "[x]",
        "*",
        "?",
        "'",
        '"',
        "\\",
        "$HOME",
        "日本",
        "🙂",
        ".",
        "(",
        "&",
        ";",
        "`",
        "{}",
        "=",
        ":",
    ]
    name = rng.choice(["", "deep/er/"]) + "n" + "".join(rng.choices(letters, k=rng.randrange(1, 12)))
    return Mutation(name, (*FIT[:-1], name), Expected.WORKS)


def no_place_for_a_run(rng: Random, work: Path) -> Mutation:
    """A new run cannot be made where it is named."""
    name = rng.choice(
        ["run", "notes.txt", "notes.txt/run", "x" * 300, "", ".", "..", "idx", "a\0b", "/proc/run", "/dev/null/run"]
    )
    return Mutation(f"--run {name[:30]!r}", (*FIT[:-1], name), Expected.REFUSED)


def output_of_report(rng: Random, work: Path) -> Mutation:
    """``report --output`` names a file of the user, a folder, or a place that cannot be."""
    name = rng.choice(
        [
            "notes.txt",
            "data.npz",
            "idx",
            ".",
            "missing/page.html",
            "notes.txt/page.html",
            "run/config.yaml",
            "x" * 300,
            "a\0b",
        ]
    )
    return Mutation(f"--output {name[:30]!r}", (*COMMANDS["report"], "--output", name), Expected.REFUSED)


def contradiction(rng: Random, work: Path) -> Mutation:
    """Options that contradict one another or the run."""
    resume = COMMANDS["resume"][:3]
    other = rng.choice(
        [
            (*resume, "--run", "other"),
            (*resume, "--config", "config.yaml", "--run", "new"),
            (*resume, "--seed", "2"),
            (*resume, "--batches.held_out", str(rng.randrange(2, 30))),
            (*resume, "--data.path", "missing.npz"),
            (*resume, "--trainer.max_steps", str(rng.randrange(1, 3))),
            (*resume, "--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "0.1"),
            (*resume, "--training.optimizer.lr", str(rng.random())),
            (
                *resume,
                "--training.lr_scheduler",
                "torch.optim.lr_scheduler.StepLR",
                "--training.lr_scheduler.step_size",
                "2",
            ),
            (*resume, "--model.gaussian", "{z: 3}", "--guide.gaussian", "{z: 3}"),
            (*FIT, "--trust", "stranger"),
            (*FIT, "--training.trim", "0.2"),
            (*FIT, "--batches.pairs.blocks", "{z: [nothing]}"),
            (
                *FIT,
                "--objective.blocks",
                rng.choice(["{a: [z]}", "{a: [z, level], b: [z]}", '{a: ["z[0:9]"], b: [level]}']),
            ),
            (*FIT, "--training.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
            (
                *FIT,
                "--objective.marginal",
                "pyro_hfvae.infer.Memory",
                "--objective.marginal.size",
                rng.choice(["-1", "0"]),
            ),
        ]
    )
    return Mutation(" ".join(other[3:])[:80], other, Expected.REFUSED)


RULES: dict[Rule, int] = {
    value_of_fit: 70,
    value_of_others: 60,
    spelling: 50,
    arguments: 50,
    no_run: 60,
    place_of_a_run: 40,
    no_place_for_a_run: 20,
    output_of_report: 20,
    contradiction: 50,
}
