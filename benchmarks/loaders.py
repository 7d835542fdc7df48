"""Rows per second and memory of the loaders of images, on data that are generated here.

Each loader runs in a process of its own: it is made for the first time (which decodes, resizes, unpacks) and once more,
then gives batches of 128 rows at random. Rows per second are those of a second of processor time. "Memory" is the peak
of anonymous memory above that after the imports; pages of mapped files, which the system takes back when it needs them,
stand beside it. Files were written just before, so that they are read from the page cache. The folders of images grow,
which shows what each image costs: the line below the table has the memory for 200,000 from it. Usage: python
benchmarks/loaders.py [--cases NAME ...]; writes benchmarks/loaders.md, where lines of other cases stay. Linux only.
"""

import argparse
import gzip
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TABLE = HERE / "loaders.md"
SMALL, LARGE, ASKED, TOYS = 4_000, 16_000, 200_000, 1_000
BATCH, SECONDS = 128, 3.0
Writer = Callable[[Path], None]


def photo(random: np.random.Generator, height: int = 218, width: int = 178) -> bytes:
    """A JPEG as large as one of CelebA, of smooth colours with some noise."""
    from PIL import Image

    coarse = Image.fromarray(random.integers(0, 256, (6, 5, 3), np.uint8)).resize((width, height))
    noisy = np.asarray(coarse).astype(int) + random.integers(-8, 9, (height, width, 3))
    out = BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "jpeg", quality=90)
    return out.getvalue()


def folder(count: int) -> Writer:
    def write(place: Path) -> None:
        random = np.random.default_rng(0)
        photos = [photo(random) for _ in range(200)]
        lines = ["name,person,yaw"]
        for number in range(count):
            name = f"{number % 100:03}/{number:06}.jpg"
            (place / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "photos" / name).write_bytes(photos[number % len(photos)])
            lines.append(f"{name},{number % 100},{number % 180 / 2}")
        (place / "photos" / "labels.csv").write_text("\n".join(lines))

    return write


def celeba(place: Path) -> None:
    random = np.random.default_rng(0)
    photos = [photo(random) for _ in range(200)]
    names = [f"{number:06}.jpg" for number in range(1, SMALL + 1)]
    with zipfile.ZipFile(place / "img_align_celeba.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(f"img_align_celeba/{name}", photos[number % len(photos)])
    rows = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, signs(random), strict=True)]
    head = [str(SMALL), " ".join(f"a{number}" for number in range(40))]
    (place / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]))
    (place / "list_eval_partition.txt").write_text("\n".join(f"{name} {at % 3}" for at, name in enumerate(names)))


def signs(random: np.random.Generator) -> list[list[int]]:
    return (2 * random.integers(0, 2, (SMALL, 40)) - 1).tolist()


def shapes3d(place: Path) -> None:
    """Two bands of the pieces that h5py chooses for an array of 480,000 such images."""
    import h5py

    random = np.random.default_rng(0)
    with h5py.File(place / "3dshapes.h5", "w") as file:
        chunks = (15_000, 4, 4, 1)
        images = file.create_dataset("images", (30_000, 64, 64, 3), "u1", chunks=chunks, compression="gzip")
        for start in range(0, 30_000, 15_000):
            coarse = random.integers(0, 256, (15_000, 8, 8, 3), np.uint8)
            images[start : start + 15_000] = coarse.repeat(8, 1).repeat(8, 2)
        file["labels"] = random.integers(0, 4, (30_000, 6)).astype(float)


def mpi3d(place: Path) -> None:
    random = np.random.default_rng(0)
    np.savez_compressed(place / "mpi3d.npz", images=random.integers(0, 64, (460_800, 8, 8, 3), np.uint8))


def cars3d(place: Path) -> None:
    from scipy.io import savemat

    random = np.random.default_rng(0)
    for car in range(20):
        savemat(place / f"{car:03}_mesh.mat", {"im": random.integers(0, 256, (128, 128, 3, 24, 4), np.uint8)})


def small_norb(place: Path) -> None:
    random = np.random.default_rng(0)
    photos = random.integers(0, 256, (TOYS, 2, 96, 96), np.uint8)
    classes = random.integers(0, 5, (TOYS, 5)).astype("<i4")
    classes[:, 3] *= 2
    for part in ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing"):
        for kind, array, magic in (
            ("dat", photos, 0x1E3D4C55),
            ("cat", classes[:, 0], 0x1E3D4C54),
            ("info", classes[:, 1:], 0x1E3D4C54),
        ):
            sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
            head = struct.pack(f"<Ii{len(sizes)}i", magic, array.ndim, *sizes)
            (place / f"{part}-{kind}.mat.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))


def image_file(place: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(place / "images.npz", images=random.integers(0, 256, (LARGE, 64, 64, 3), np.uint8))


def idx_images(place: Path) -> None:
    random = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = struct.pack(">HBB3I", 0, 8, 3, LARGE, 28, 28) + random.bytes(LARGE * 28 * 28)
        labels = struct.pack(">HBBI", 0, 8, 1, LARGE) + bytes(LARGE)
        (place / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, 1))
        (place / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, 1))


def shards(place: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(20):
        np.save(place / f"part_{number}.npy", random.integers(0, 256, (2_000, 64, 64, 3), np.uint8))


@dataclass(frozen=True)
class Case:
    """What is written into a folder, and the class and options that read it, ``{}`` for the folder."""

    write: Writer
    kind: str
    path: str = "{}"
    options: tuple[tuple[str, object], ...] = ()


FOLDER = (("size", (64, 64)), ("channels", 3), ("factors", "labels.csv"))
CASES = {
    f"ImageFolder, {SMALL:,} JPEGs of 218 × 178 to 64 × 64": Case(folder(SMALL), "ImageFolder", "{}/photos", FOLDER),
    f"ImageFolder, {LARGE:,} of the same": Case(folder(LARGE), "ImageFolder", "{}/photos", FOLDER),
    f"CelebA, {SMALL:,} photos in a zip file": Case(celeba, "CelebA"),
    "Shapes3D, 30,000 images": Case(shapes3d, "Shapes3D", "{}/3dshapes.h5"),
    "MPI3D, 460,800 images of 8 × 8": Case(mpi3d, "MPI3D", "{}/mpi3d.npz"),
    "Cars3D, 20 cars": Case(cars3d, "Cars3D"),
    f"SmallNORB, {2 * TOYS:,} photos": Case(small_norb, "SmallNORB"),
    "Shards, 20 files of 2,000 images of 64 × 64 × 3": Case(shards, "Shards"),
    f"ImageFile, {LARGE:,} images of 64 × 64 × 3": Case(image_file, "ImageFile", "{}/images.npz"),
    f"IdxImages, {2 * LARGE:,} images of 28 × 28": Case(idx_images, "IdxImages"),
}


def resident(kind: str) -> float:
    """MiB of RssAnon or RssFile."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {kind} in /proc/self/status")


def measure(name: str, place: Path) -> dict[str, float]:
    """In the process of its own: seconds, rows per second and MiB."""
    import torch

    import pyro_hfvae.data

    case = CASES[name]
    make = getattr(pyro_hfvae.data, case.kind)
    before, peak, done = resident("RssAnon"), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, seconds = [], []
    for _ in range(2):
        began, started = time.perf_counter(), time.process_time()
        data = make(case.path.format(place), **dict(case.options))
        wall.append(time.perf_counter() - began)
        seconds.append(time.process_time() - started)
        if len(seconds) < 2:
            del data
    made = peak
    random, rows, started = torch.Generator().manual_seed(0), 0, time.process_time()
    while time.process_time() - started < SECONDS:
        rows += len(data.batch(torch.randint(len(data), (BATCH,), generator=random)).x)
    rate = rows / (time.process_time() - started)
    done.set()
    watcher.join()
    return {
        "count": len(data),
        "wall": wall[0],
        "first": seconds[0],
        "again": seconds[1],
        "rate": rate,
        "making": max(0.0, made - before),
        "peak": max(0.0, peak - before),
        "mapped": resident("RssFile"),
    }


def measured(name: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as root:
        place = Path(root) / "source"
        place.mkdir()
        CASES[name].write(place)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYRO_HFVAE_DATA": str(Path(root) / "root")}
        command = [sys.executable, __file__, "--measure", name, str(place)]
        finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        found: dict[str, float] = json.loads(finished.stdout)
        return found


def line(name: str, found: dict[str, float]) -> str:
    made = found["count"] / found["first"] if found["first"] > 2 * found["again"] else None
    times = f"{found['wall']:.1f} | {found['first']:.1f} | {found['again']:.1f}"
    rates = f"{f'{made:,.0f}' if made else '–'} | {found['rate']:,.0f}"
    memory = f"{found['making']:.0f} | {found['peak']:.0f} | {found['mapped']:.0f}"
    return f"| {name} | {times} | {rates} | {memory} |"


def extrapolated(small: dict[str, float], large: dict[str, float]) -> str:
    each = (large["making"] - small["making"]) / (large["count"] - small["count"])
    total = large["making"] + each * (ASKED - large["count"])
    return (
        f"From {SMALL:,} to {LARGE:,} images the memory for making an `ImageFolder` grows by {each * 1024:.2f} KiB an "
        f"image (names, listing, factors; no pixels); at this rate {ASKED:,} images take {total:,.0f} MiB. That number "
        "is an extrapolation, not a measurement."
    )


def about() -> str:
    from importlib.metadata import version

    from PIL import __version__ as pillow

    from pyro_hfvae.train.run_folder import processor

    return (
        f"Seed 0; pyro-hfvae {version('pyro-hfvae')}, torch {version('torch')}, NumPy {np.__version__}, "
        f"Pillow {pillow}, Python {platform.python_version()}; {os.cpu_count()} cores, {processor()}, which others "
        "used too."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    head = [
        "| loader | made: wall, s | processor, s | made again, s | rows/s made | rows/s in batches | memory to "
        "make, MiB | with batches | mapped |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    before = TABLE.read_text().splitlines() if TABLE.is_file() else []
    kept = {name: [row for row in before if row.startswith(f"| {name} |")] for name in CASES}
    growth = [row for row in before if row.startswith("From ")]
    found = {}
    for name in options.cases:
        found[name] = measured(name)
        kept[name] = [line(name, found[name])]
        print(kept[name][0], flush=True)
        folders = [found[name] for name in CASES if CASES[name].kind == "ImageFolder" and name in found]
        if len(folders) == 2:
            growth = [extrapolated(*folders)]
        rows = [row for rows in kept.values() for row in rows]
        TABLE.write_text("\n".join([*head, *rows, "", *growth, "", about()]) + "\n")


if __name__ == "__main__":
    main()
