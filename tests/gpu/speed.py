"""How fast the parts are on a GPU, beside what others would write, in interleaved rounds.

On a GPU images per second count, not those per core-second: a processor that waits for it works.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet.config import AlexNetConfig
from alexnet.model import AlexNet
from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.graph import Output
from pipeline.order import Shard
from tests.benchmarks.contender import wait_for_gpu
from tests.benchmarks.loader import contenders as loaders
from tests.benchmarks.loader.contenders import write_files
from tests.benchmarks.serving import trial
from tests.benchmarks.serving.load import Answer, ask, closed_loop, multipart, open_loop
from tests.benchmarks.serving.process import Server
from tests.benchmarks.step import contenders as steps
from tests.gpu import ceilings
from tests.gpu.check import Finding, Setup
from tests.gpu.runs import ROOT, command
from trainer.evaluation.validation import Validator
from trainer.loop.precision import algorithms

ROUNDS = 5
Deliver = Callable[[], Iterator[Any]]


def step(setup: Setup) -> Iterator[Finding]:
    """The training step at the paper's batch and at a large one, beside torch's own layers."""
    for batch in (128, 1024) if setup.gpu else (4,):
        task = _step_task(setup, batch)
        eager = partial(steps.eager, task, "bf16" if setup.gpu else "fp32")
        contenders: dict[str, Deliver] = {
            "ours": partial(_by, task, repeatable=False),
            "ours, --deterministic": partial(_by, task, repeatable=True),
            "eager, contiguous": eager,
            "eager, channels_last": partial(eager, channels_last=True),
            "matrix products alone": partial(steps.products, task),
        }
        yield from _compared(setup, contenders, f"batch {batch}: ", seconds=0.4)


def _by(task: steps.Task, *, repeatable: bool) -> Iterator[Tensor]:
    """Our step, as a run of that kind makes it."""
    deliveries = steps.ours(task)
    while True:
        with algorithms(repeatable=repeatable):
            delivery = next(deliveries)
        yield delivery


def compiled_step(setup: Setup) -> Iterator[Finding]:
    """The same beside what torch.compile makes of torch's own layers, and of ours."""
    if not setup.gpu:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes minutes on a processor
    batch = 128 if setup.gpu else 4
    task = _step_task(setup, batch)
    contenders: dict[str, Deliver] = {
        "ours": partial(steps.ours, task),
        "torch.compile, channels_last": partial(
            steps.eager, task, "auto", compiled=True, channels_last=True
        ),
        "ours, torch.compile": partial(steps.ours, task, compiled=True),
    }
    yield from _compared(setup, contenders, f"batch {batch}: ", seconds=0.4)


def operations(setup: Setup) -> Iterator[Finding]:
    """What a step launches, and what takes longest in it."""
    from torch.profiler import ProfilerActivity, profile

    running = steps.ours(_step_task(setup, 128 if setup.gpu else 4))
    for _ in range(5):
        next(running)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * setup.gpu
    with profile(activities=kinds) as profiler:
        next(running)
        wait_for_gpu()
    events = profiler.events()
    for name in ("cudaLaunchKernel", "cudaMemcpyAsync", "cudaStreamSynchronize", "aten::copy_"):
        yield Finding(f"{name} in a step", sum(event.name == name for event in events))
    took = "self_device_time_total" if setup.gpu else "self_cpu_time_total"
    longest = sorted(profiler.key_averages(), key=lambda one: -getattr(one, took))
    for one in longest[:30]:
        case = f"{one.key[:100]}, {one.count} times"
        yield Finding(case, getattr(one, took) / 1e3, unit="ms")


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "conv1": ((3, 227, 227), (96, 3, 11, 11), {"stride": 4}),
    "conv1, four rows and columns as channels": ((48, 57, 57), (96, 48, 3, 3), {}),
    "conv2": ((96, 27, 27), (256, 48, 5, 5), {"padding": 2, "groups": 2}),
    "conv2, one tower": ((48, 27, 27), (128, 48, 5, 5), {"padding": 2}),
    "conv3": ((256, 13, 13), (384, 256, 3, 3), {"padding": 1}),
    "conv4": ((384, 13, 13), (384, 192, 3, 3), {"padding": 1, "groups": 2}),
    "conv4, one tower": ((192, 13, 13), (192, 192, 3, 3), {"padding": 1}),
    "conv5": ((384, 13, 13), (256, 192, 3, 3), {"padding": 1, "groups": 2}),
    "conv5, one tower": ((192, 13, 13), (128, 192, 3, 3), {"padding": 1}),
}
"""Each with its input, (channels, rows, columns), its kernels and what else it is called with."""


def convolutions(setup: Setup) -> Iterator[Finding]:
    """Forward and backward of each convolution in bfloat16, in both layouts, by cuDNN's first guess
    and by the algorithm that it finds fastest; as groups and one tower alone."""
    batch = 128 if setup.gpu else 1
    for tried in (False, True):
        torch.backends.cudnn.benchmark = tried
        for name, (shape, kernels, options) in CONVOLUTIONS.items():
            for layout in ("channels_last", "contiguous_format"):
                form = getattr(torch, layout)
                x, w = (
                    torch.randn(size, device=setup.device, dtype=torch.bfloat16)
                    .to(memory_format=form)
                    .requires_grad_()
                    for size in ((batch, *shape), kernels)
                )
                wanted = [w] if name.startswith("conv1") else [w, x]
                y = F.conv2d(x, w, **options)
                took_s = ceilings.seconds(
                    setup, partial(_both_ways, x, w, options, wanted, torch.randn_like(y)), 10
                )
                case = f"{name}, {layout}, {'tried' if tried else 'guessed'}"
                yield Finding(case, 1e3 * took_s, unit="ms")


def _both_ways(
    x: Tensor, w: Tensor, options: dict[str, Any], wanted: list[Tensor], gradient: Tensor
) -> None:
    torch.autograd.grad(F.conv2d(x, w, **options), wanted, gradient)


def loader(setup: Setup) -> Iterator[Finding]:
    """Training images on the device: each way to decode them, then the best beside its peers."""
    data = Dataset(setup.dataset)
    crop = data.manifest.size * 7 // 8
    files = setup.folder / "files"
    if not files.exists():
        write_files(data, files)
    cores = len(os.sched_getaffinity(0))
    output: Output = "float16" if setup.gpu else "float32"
    rates: dict[tuple[int, float | None], float] = {}
    for threads in sorted({4, cores // 2, cores - 2}) if setup.gpu else (1,):
        for load in (None, 0.0, 0.3, 0.65, 1.0) if setup.gpu else (None,):
            task = loaders.Task(setup.dataset, files, 128, crop, threads, setup.device)
            rate = rates[threads, load] = _rate(loaders.ours(task, output, load), 1.0)
            how = "CPU" if load is None else f"engines' share {load:g}"
            yield Finding(f"{threads} threads, {how}", rate, unit="images/s")
    threads, load = max(rates, key=lambda way: rates[way])
    task = loaders.Task(setup.dataset, files, 128, crop, threads, setup.device)
    contenders: dict[str, Deliver] = {
        "ours": partial(loaders.ours, task, output, load),
        "DALI from files": partial(loaders.dali, task, output, load or 0.65),
        "DataLoader and Pillow": partial(loaders.data_loader, task, "float32"),
    }
    if setup.gpu:
        contenders["torchvision on the GPU, uint8"] = partial(loaders.torchvision_cuda, task)
    yield from _compared(setup, contenders, "", seconds=1.0, rounds=3)


def validation(setup: Setup) -> Iterator[Finding]:
    """The validation images by one view and by ten, as after an epoch and after a run."""
    data = Dataset(setup.dataset)
    crop, width = data.manifest.size * 7 // 8, 1.0 if setup.gpu else 0.25
    config = AlexNetConfig(classes=len(data.manifest.classes), crop=crop, width=width)
    model = AlexNet(config).to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean_3HW = torch.full((3, crop, crop), 120.0, device=setup.device)
    precision = "bf16" if setup.gpu else "fp32"
    validator = Validator(data, Shard(0, 1, setup.device_id), Decoding(8))
    for views in (1, 10):
        for turn in ("first", "again"):
            began = time.perf_counter()
            accuracy = validator(model, mean_3HW, views=views, precision=precision)
            rate = accuracy.pictures / (time.perf_counter() - began)
            yield Finding(f"{views} views, {turn}", rate, unit="images/s")


def run(setup: Setup) -> Iterator[Finding]:
    """A run at the paper's batch: images a second, and the share of its time without images."""
    data, epochs = Dataset(setup.dataset), 20 if setup.gpu else 1
    batch = 128 if setup.gpu else 16
    words = command(setup, data, "second", epochs, batch)
    began = time.monotonic()
    subprocess.run(words, cwd=ROOT, check=True)
    yield Finding("whole run", time.monotonic() - began, unit="s")
    lines = (setup.folder / "runs/second/metrics.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["kind"] == "train"]
    later = events[len(events) // 2 :]
    yield Finding("images/s, median", median(event["images_per_s"] for event in later))
    yield Finding("waiting for images", 100 * median(e["wait"] for e in later), unit="%")
    span = later[-1]["time"] - later[0]["time"]
    if span:
        samples = sum(event["samples"] for event in later[1:])
        yield Finding("images/s over epochs, validation and checkpoints", samples / span)


def server(setup: Setup) -> Iterator[Finding]:
    """Classification by ten views: closed loop, then open loop at half of what that gave; beside
    the plain endpoint."""
    config = AlexNetConfig() if setup.gpu else AlexNetConfig(width=0.1, crop=112)
    trial.publish(setup.folder / "models", config, seed=0)
    model = setup.folder / "models" / trial.NAME
    requests = [multipart("/classify", jpeg) for jpeg in trial.photographs()]
    cores = len(os.sched_getaffinity(0))
    warm_s, asked_s = (2.0, 4.0) if setup.gpu else (0.5, 1.0)
    peers = "tests.benchmarks.serving.contenders"
    servers = {
        "ours": (("serving",), "/readyz"),
        "ours, 4 processes": (("serving", "--workers", min(4, cores)), "/readyz"),
        "plain endpoint": ((peers, "naive"), "/openapi.json"),
    }
    for name, (words, ready) in servers.items():
        with Server(*words, "--model", model, ready=ready) as running:
            ask(closed_loop(running.port, requests, 16, warm_s))
            rate = 0.0
            for connections in (1, 16, 64) if setup.gpu else (4,):
                answers = ask(closed_loop(running.port, requests, connections, asked_s))
                case = f"{name}, {connections} connections"
                yield from _answered(case, answers, asked_s)
                rate = max(rate, sum(a.status == 200 for a in answers) / asked_s)
            answers = ask(open_loop(running.port, requests, rate / 2, asked_s, seed=0))
            yield from _answered(f"{name}, open loop at half", answers, asked_s)


def _answered(case: str, answers: list[Answer], seconds: float) -> Iterator[Finding]:
    latencies = sorted(answer.latency_s for answer in answers if answer.status == 200)
    yield Finding(f"{case}: answers", len(latencies) / seconds, unit="/s")
    if latencies:
        yield Finding(f"{case}: median", 1e3 * median(latencies), unit="ms")
        yield Finding(f"{case}: p99", 1e3 * latencies[int(0.99 * len(latencies))], unit="ms")
    if refused := len(answers) - len(latencies):
        yield Finding(f"{case}: refused", refused)


def _step_task(setup: Setup, batch: int) -> steps.Task:
    network = AlexNetConfig() if setup.gpu else AlexNetConfig(width=0.25, crop=112)
    return steps.Task(network, batch, torch.get_num_threads(), step=True, device=setup.device)


def _compared(
    setup: Setup,
    contenders: Mapping[str, Deliver],
    prefix: str,
    seconds: float,
    rounds: int = ROUNDS,
) -> Iterator[Finding]:
    """Rates in the median of interleaved rounds, and the median of the ratios of ours, the first,
    to each other within a round."""
    running = {}
    for name, deliver in contenders.items():
        try:
            running[name] = deliver()
            _rate(running[name], 0.0)
        except Exception as error:  # of a peer that does not work here
            if not running or name == next(iter(contenders)):
                raise
            del running[name]
            print(f"{name} is left out: {error!r}", file=sys.stderr)
            yield Finding(f"{prefix}{name} does not work here: {type(error).__name__}", 0)
    rates: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds if setup.gpu else 1):
        for name, deliveries in running.items():
            rates[name].append(_rate(deliveries, seconds))
    ours, *others = rates
    for name, own in rates.items():
        yield Finding(f"{prefix}{name}", median(own), unit="images/s")
    for name in others:
        ratio = median(a / b for a, b in zip(rates[ours], rates[name], strict=True))
        yield Finding(f"{prefix}{ours} : {name}", ratio)


def _rate(deliveries: Iterator[Any], seconds: float) -> float:
    """Images a second, after some that are not counted."""
    for _ in range(8):
        next(deliveries)
    wait_for_gpu()
    images, began = 0, time.perf_counter()
    while not images or time.perf_counter() - began < seconds:
        images += len(next(deliveries))
    wait_for_gpu()
    return images / (time.perf_counter() - began)
