"""python -m tests.benchmarks.similar: what similar images cost, and how similar they are.

pictures: a model's index, built and asked about the validation images. vectors: kinds of index
on made-up vectors, each in a process of its own. runtimes: torch and FAISS each bring OpenMP; does
the forward pass suffer where both are loaded? Ends with one line of JSON.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, BinaryIO, Literal

import faiss
import numpy as np
import torch
from pydantic import Field
from typer import Argument

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.console import Options
from alexnet.similar import FOLDER, INDEX
from alexnet.thumbnails import JPEGS, ThumbnailWriter
from pipeline.dataset import Dataset
from serving.neighbours import Neighbours, mapped, search
from tests.benchmarks.harness import in_own_process, own_bytes, run
from trainer.publishing.similar_index import BATCH, features, make_index

Part = Literal["pictures", "vectors", "runtimes"]
NEIGHBOURS = 6
QUERIES, ROUNDS = 200, 20
IMAGENET = 1_281_167
KINDS = ("Flat", "SQfp16", "SQ8")
"""And lists of vectors, as many as there are enough vectors for."""

PASSIVE = {"OMP_WAIT_POLICY": "passive"}
RUNTIMES: dict[str, tuple[str, dict[str, str]]] = {
    "torch alone": ("import torch", {}),
    "torch, then FAISS": ("import torch, faiss", {}),
    "FAISS, then torch": ("import faiss, torch", {}),
    "a search before each pass": ("import torch, faiss; searching = True", {}),
    "torch alone, passive": ("import torch", PASSIVE),
    "a search before, passive": ("import torch, faiss; searching = True", PASSIVE),
}
"""{name: (what is loaded, how threads wait for each other)}."""
FORWARD = """
import json, time
from statistics import median
searching = False
{imports}
import numpy
from alexnet.model import AlexNet, AlexNetConfig

model = AlexNet(AlexNetConfig()).eval().to(memory_format=torch.channels_last)
image_NCHW = torch.randn(20, 3, 224, 224).to(memory_format=torch.channels_last)
if searching:
    vectors = numpy.random.default_rng(0).random((9469, 4096), numpy.float32)
    index = faiss.IndexFlatL2(4096)
    index.add(vectors)
wall_s, cpu_s = [], []
with torch.inference_mode():
    for _ in range(8):
        if searching:
            index.search(vectors[:2], 6)
        wall, cpu = time.perf_counter(), time.process_time()
        model(image_NCHW)
        wall_s.append(time.perf_counter() - wall)
        cpu_s.append(time.process_time() - cpu)
print(json.dumps([1000 * median(wall_s[2:]), 1000 * median(cpu_s[2:])]))
"""


class Similar(Options):
    """Measure what similar images cost, and how similar they are."""

    parts: Annotated[tuple[Part, ...], Argument()] = ("pictures", "vectors", "runtimes")
    """What is measured."""
    model: Path | None = None
    """models/NAME, for the images."""
    dataset: Path | None = None
    """The packed dataset that it was trained on."""
    vectors: int = Field(100_000, ge=1)
    """How many are made up."""
    units: int = Field(4096, ge=1)
    """Units of each vector."""
    kinds: tuple[str, ...] = (*KINDS, "IVF1024,SQ8")
    """Kinds of index that are tried on them."""
    rounds: int = Field(3, ge=1)
    """Rounds of the runtimes."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("similar", Similar, bench, arguments)


def bench(options: Similar) -> int:
    results: dict[str, object] = {}
    if "pictures" in options.parts:
        if not (options.model and options.dataset):
            raise UserError("the part pictures needs --model and --dataset, or name other parts")
        results["pictures"] = similar_images(options.model, options.dataset)
    if "vectors" in options.parts:
        results["vectors"] = made_up_vectors(options.kinds, options.vectors, options.units)
    if "runtimes" in options.parts:
        results["runtimes"] = runtimes(options.rounds)
    print(json.dumps(results | {"faiss": faiss.__version__, "torch": torch.__version__}))
    return 0


def similar_images(model: Path, dataset: Path) -> dict:
    """Time and size of an index, and of the neighbours of all validation images the share that
    is of the same class, with each kind of index."""
    step = checkpoint.current(model)
    with tempfile.TemporaryDirectory(prefix="similar.") as folder:
        copy = Path(folder) / step.name
        shutil.copytree(step, copy, ignore=shutil.ignore_patterns(FOLDER))
        loaded = checkpoint.load(copy)
        words = [sys.executable, "-m", "trainer", "index", str(copy), "--data", str(dataset)]
        before_s = _children_s()
        _, build_s, _ = _timed(subprocess.check_call, words)
        build_cpu_s = _children_s() - before_s
        exact, open_s, _ = _timed(Neighbours.open, copy, loaded.about)
        size = {name: (copy / FOLDER / name).stat().st_size for name in (INDEX, JPEGS)}
        asked = Dataset(dataset).val
        with ThumbnailWriter(Path(folder)) as thumbnails:
            feature_QH = np.concatenate(list(features(loaded, asked, thumbnails)))
        label_P = np.array([exact.label(number) for number in range(len(exact))])
        label_Q = asked.label(np.arange(len(asked)))
        stored_PH = mapped(copy / FOLDER / INDEX).reconstruct_n(0, len(exact))
    result = {
        "pictures": len(exact), "units": feature_QH.shape[1], "asked": len(asked),
        "build_s": build_s, "build_cpu_s": build_cpu_s, "open_s": open_s, "bytes": size,
    }  # fmt: skip
    print(
        f"{len(exact):,} images of {feature_QH.shape[1]} units: built in {build_s:.0f} s "
        f"({build_cpu_s:.0f} s of processor), checked and opened in {open_s:.2f} s, "
        f"{size[INDEX] / 1e6:.1f} MB of vectors, {size[JPEGS] / 1e6:.1f} MB of thumbnails"
    )
    kinds: dict[str, dict] = {}
    nearest_QN: dict[str, np.ndarray] = {}
    for kind in (*KINDS, "IVF128,SQ8"):
        index = make_index(kind, len(stored_PH[0]), len(stored_PH), _sliced(stored_PH))
        nearest_QN[kind] = search(index, feature_QH, NEIGHBOURS)[1]
        same_QN = label_P[nearest_QN[kind]] == label_Q[:, None]
        kinds[kind] = {
            "same_class": same_QN.mean(),
            "nearest_same_class": same_QN[:, 0].mean(),
            "recall": recall(nearest_QN[kind], nearest_QN["Flat"]),
        }
        print(
            f"{kind:>25}: of {NEIGHBOURS} neighbours {same_QN.mean():.2%} in the image's class, "
            f"of the nearest {same_QN[:, 0].mean():.2%}; recall {kinds[kind]['recall']:.4f}"
        )
    return result | {"kinds": kinds}


def made_up_vectors(kinds: Sequence[str], vectors: int, units: int) -> list[dict]:
    """What `measure` says of each kind of index, beside what a search of every vector finds."""
    with tempfile.TemporaryDirectory(prefix="similar.") as folder:
        with (Path(folder) / "vectors").open("wb") as file:
            for feature_NH in make_up(vectors + QUERIES, units):
                feature_NH.tofile(file)
        rows, exact_QN = [], None
        for kind in ("Flat", *(kind for kind in kinds if kind != "Flat")):
            row = in_own_process(measure, kind, Path(folder), vectors, units)
            found_QN = row.pop("found")
            exact_QN = found_QN if exact_QN is None else exact_QN
            rows.append({"kind": kind, "recall": recall(found_QN, exact_QN)} | row)
            print(_line(rows[-1], vectors), flush=True)
    return rows


def measure(kind: str, directory: Path, vectors: int, units: int) -> dict:
    """Build, write, map and ask an index of the first of the vectors in `directory`, in this
    process alone; asked about those that follow."""
    before = own_bytes("VmHWM")
    with (directory / "vectors").open("rb") as file:
        batches = _read(file, vectors, units)
        index, build_s, build_cpu_s = _timed(make_index, kind, units, vectors, batches)
        peak_bytes = own_bytes("VmHWM") - before
        query_QH = np.concatenate(list(_read(file, QUERIES, units)))
    path = directory / "index"
    faiss.write_index(index, str(path))
    del index
    before = own_bytes("RssAnon")
    index = mapped(path)
    result = {
        "build_s": build_s, "build_cpu_s": build_cpu_s, "peak_bytes": peak_bytes,
        "bytes": path.stat().st_size, "found": search(index, query_QH, NEIGHBOURS)[1],
        "own_bytes": own_bytes("RssAnon") - before,
    }  # fmt: skip
    for count in (1, 16):
        times = [_timed(search, index, query_QH[n:][:count], NEIGHBOURS)[1:] for n in range(ROUNDS)]
        result[f"search_{count}_s"], result[f"search_{count}_cpu_s"] = _medians(times)
    return result


def make_up(count: int, units: int) -> Iterator[np.ndarray]:
    """`count` vectors like last hidden layers, in batches (N, units) float32.

    Three quarters of their values are zeros, 8 axes hold two thirds of the variance, 64 five
    sixths, and kinds of index lose on them what they lose on the 9,469 of Imagenette: random mixes
    of 512 hidden values, a thousand classes, cut off below.
    """
    random = np.random.default_rng(0)
    deviation_R = np.arange(1, 513, dtype=np.float32) ** -0.75
    deviation_R /= np.linalg.norm(deviation_R)
    class_KR = random.standard_normal((1000, 512), np.float32) * deviation_R
    mix_RH = random.standard_normal((512, units), np.float32)
    for first in range(0, count, 4096):
        rows = min(4096, count - first)
        own_NR = random.standard_normal((rows, 512), np.float32) * deviation_R
        hidden_NR = 0.6**0.5 * class_KR[random.integers(0, 1000, rows)] + 0.4**0.5 * own_NR
        yield np.maximum(hidden_NR @ mix_RH - 0.7, 0)


def runtimes(rounds: int) -> dict[str, list[float]]:
    """{what is loaded: milliseconds of a forward pass of 20 images, of a clock and of processor}.

    Medians of processes that take turns.
    """
    plain = {name: value for name, value in os.environ.items() if name not in PASSIVE}
    seen: dict[str, list[list[float]]] = {name: [] for name in RUNTIMES}
    for _ in range(rounds):
        for name, (imports, environment) in RUNTIMES.items():
            words = [sys.executable, "-c", FORWARD.format(imports=imports)]
            done = subprocess.run(
                words, env=plain | environment, stdout=subprocess.PIPE, text=True, check=True
            )
            seen[name].append(json.loads(done.stdout))
    result = {name: _medians(times) for name, times in seen.items()}
    for name, (wall_ms, cpu_ms) in result.items():
        print(f"{name:>25}: {wall_ms:.0f} ms, {cpu_ms:.0f} ms of processor")
    return result


def _line(row: dict, vectors: int) -> str:
    one_ms, many_ms = 1000 * row["search_1_s"], 1000 * row["search_16_s"]
    scale = IMAGENET / vectors
    return (
        f"{row['kind']:>25}: recall {row['recall']:.4f}; built in {row['build_s']:.0f} s "
        f"({row['build_cpu_s']:.0f} s of processor, {row['peak_bytes'] / 1e9:.2f} GB), "
        f"{row['bytes'] / 1e9:.3f} GB; one image {one_ms:.1f} ms, sixteen {many_ms:.1f} ms; "
        f"{row['own_bytes'] / 1e6:.0f} MB of a process's own. For {IMAGENET:,}: "
        f"{scale * row['bytes'] / 1e9:.1f} GB, {scale * one_ms:,.0f} ms"
    )


def _read(file: BinaryIO, vectors: int, units: int) -> Iterator[np.ndarray]:
    for first in range(0, vectors, BATCH):
        rows = min(BATCH, vectors - first)
        yield np.fromfile(file, np.float32, rows * units).reshape(rows, units)


def _sliced(feature_PH: np.ndarray) -> Iterator[np.ndarray]:
    return (feature_PH[n : n + BATCH] for n in range(0, len(feature_PH), BATCH))


def recall(found_QN: np.ndarray, exact_QN: np.ndarray) -> float:
    """Share of the true neighbours that are among those found."""
    pairs = zip(found_QN.tolist(), exact_QN.tolist(), strict=True)
    return sum(len({*found} & {*exact}) for found, exact in pairs) / exact_QN.size


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Result, seconds of the clock and of processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*arguments)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def _children_s() -> float:
    """Seconds of processor of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _medians(times: Sequence[Sequence[float]]) -> list[float]:
    return [median(part) for part in zip(*times, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
