"""Memory and rows per second of the loaders of tables, counts and sequences; each in a process of its own.

Usage: python benchmarks/table_loaders.py [--rows 2000000] [--columns 20] [--batch 1024]

Makes files of random numbers in a temporary folder, reads each, and draws 50 batches of random rows. The memory is the
greatest resident set of the process; imports have a part of it, which is printed in the first line.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from pyro_hfvae.data import Counts, Data, Sequences, Table

BATCHES = 50


def make(folder: Path, rows: int, columns: int) -> None:
    """Files of the same table, of counts of a tenth as many rows, and of sequences of a hundredth."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, columns)).astype(np.float32)
    np.save(folder / "table.npy", x)
    np.savez(folder / "table.npz", x=x)
    frame = pd.DataFrame(x, columns=[f"c{place}" for place in range(columns)])
    frame["c0"] = random.choice(["red", "green", "blue"], rows)
    frame["c1"] = random.integers(0, 9, rows)
    frame.to_parquet(folder / "table.parquet")
    frame.to_csv(folder / "table.csv", index=False, float_format="%.6g")
    counts = sparse.csr_array(random.poisson(0.05, (rows // 10, 1000)).astype(np.float32))
    np.savez(folder / "counts.npz", data=counts.data, indices=counts.indices, indptr=counts.indptr, shape=counts.shape)
    lengths = random.integers(1, 101, rows // 100)
    series = random.normal(size=(rows // 100, 100, columns)).astype(np.float32)
    np.savez(folder / "sequences.npz", x=series, lengths=lengths)


def measure(file: Path, batch: int) -> None:
    """Prints a line about one file."""
    imports = _peak()
    started = time.perf_counter()
    make_data: dict[str, type[Data]] = {"table": Table, "counts": Counts, "sequences": Sequences}
    data = make_data[file.stem](str(file))
    loaded = time.perf_counter() - started
    order = torch.randint(len(data), (BATCHES, batch), generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    for indices in order:
        data.batch(indices)
    rate = order.numel() / (time.perf_counter() - started)
    shape = " × ".join(map(str, (len(data), *data.shape)))
    cells = [file.name, shape, f"{file.stat().st_size / 2**20:,.0f}", f"{imports:,.0f}", f"{_peak():,.0f}"]
    print(f"| {' | '.join(cells)} | {loaded:.1f} | {rate:,.0f} |", flush=True)


def _peak() -> float:
    """The greatest resident set so far, in MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024  # getrusage has that of the process that started this one in it


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--file", type=Path, help="of the measured process")
    options = parser.parse_args()
    if options.file:
        measure(options.file, options.batch)
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.rows, options.columns)
        print("| file | data | MiB | MiB of imports | MiB at the peak | seconds to load | rows per second |\n"
              "| --- | --- | --- | --- | --- | --- | --- |", flush=True)  # fmt: skip
        for name in ("table.npy", "table.npz", "table.parquet", "table.csv", "counts.npz", "sequences.npz"):
            command = [sys.executable, __file__, "--file", str(Path(folder) / name), "--batch", str(options.batch)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
