"""A GPU that Ray counts and torch cannot use: claimed on a machine that has none."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.nodes import Cluster, ray_nodes
from tests.trainer.test_train import SHORT, arguments
from trainer.on_ray.probe import Driver, Finding

NEW, OLD = Driver("580.65.06", "13.0"), Driver("535.54.03", "12.2")
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12020)"
LINE = "torch cannot use the GPU of "
CPU_BUILD = f"torch {torch.__version__} is built without CUDA (found no NVIDIA driver); install a"

no_gpu = pytest.mark.skipif(
    torch.version.cuda is not None or Path("/proc/driver/nvidia").exists(),
    reason="this machine has a GPU, or torch is built for one",
)


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding("2.13.0", "13.0", NEW, None), None),
        (
            Finding("2.13.0+cpu", None, NEW, "Torch not compiled with CUDA enabled"),
            "torch 2.13.0+cpu is built without CUDA (found NVIDIA driver 580.65.06, which supports "
            "CUDA up to 13.0); install a torch that is built for CUDA",
        ),
        (
            Finding("2.13.0+cpu", None, None, "Torch not compiled with CUDA enabled"),
            "torch 2.13.0+cpu is built without CUDA (found no NVIDIA driver); install a torch that "
            "is built for CUDA",
        ),
        (
            Finding("2.13.0", "13.0", OLD, TOO_OLD),
            "torch 2.13.0 is built for CUDA 13.0 (found NVIDIA driver 535.54.03, which supports "
            f"CUDA up to 12.2): {TOO_OLD}; install an NVIDIA driver that supports CUDA 13.0",
        ),
        (
            Finding("2.13.0", "13.0", None, "Found no NVIDIA driver on your system"),
            "torch 2.13.0 is built for CUDA 13.0 (found no NVIDIA driver): Found no NVIDIA driver "
            "on your system; install an NVIDIA driver that supports CUDA 13.0",
        ),
        (
            Finding("2.13.0", "12.8", OLD, "CUDA error: out of memory"),
            "torch 2.13.0 is built for CUDA 12.8 (found NVIDIA driver 535.54.03, which supports "
            "CUDA up to 12.2): CUDA error: out of memory; look at the GPU with `nvidia-smi`",
        ),
    ],
)
def test_trouble_names_what_was_found_and_the_remedy(finding: Finding, text: str | None) -> None:
    assert finding.trouble == text


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_nodes() as cluster:
        cluster.start(cpus=2, gpus=1)
        yield cluster


@no_gpu
@pytest.mark.parametrize(("command", "device"), [("train", "auto"), ("evaluate", "gpu")])
def test_a_gpu_that_torch_cannot_use(
    command: str, device: str, cluster: Cluster, dataset: Path, two_models: tuple[Path, Path],
    tmp_path: Path, run: Callable,
) -> None:  # fmt: skip
    """gpu is refused. auto asks for CPUs, and for more than there are, so that it ends there."""
    words, refusal = {
        "train": (arguments("r", dataset, tmp_path), "--workers is 3, this cluster has 2 CPUs"),
        "evaluate": (
            ["trainer", "evaluate", two_models[0], "--data", dataset],
            "3 worker(s) with a CPU each, but this cluster has room for 2",
        ),
    }[command]
    done = run(*words, "--workers", 3, "--device", device, env=cluster.environment)
    assert done.returncode == 2, done.stderr
    line, *more = done.stderr.splitlines()
    start = "computing on the CPU: " if device == "auto" else f"python -m trainer {command}: "
    assert line.startswith(start + LINE)
    assert CPU_BUILD in line
    assert line.endswith("built for CUDA, or use --device cpu")
    assert len(more) == (device == "auto")
    assert all(refusal in each for each in more)
    assert not list(tmp_path.iterdir())


@no_gpu
@pytest.mark.slow
@pytest.mark.long  # test_resources.py starts both on CPUs; the tests above, both with this GPU
def test_a_run_and_an_evaluation_on_the_cpu_instead(
    cluster: Cluster, dataset: Path, tmp_path: Path, run: Callable
) -> None:
    run = partial(run, env=cluster.environment)
    trained = run(*arguments("r", dataset, tmp_path), *SHORT)
    assert trained.returncode == 0, trained.stderr
    evaluated = run("trainer", "evaluate", tmp_path / "models" / "r", "--data", dataset)
    assert evaluated.returncode == 0, evaluated.stderr
    for done in (trained, evaluated):
        assert done.stderr.startswith(f"computing on the CPU: {LINE}")
        assert done.stderr.count("\n") == 1


def within(cluster: Cluster, script: str) -> list[str]:
    """What a script on the cluster says on stderr."""
    start = "import ray; from pipeline.cluster import cluster; from trainer.on_ray import probe\n"
    done = subprocess.run(
        [sys.executable, "-c", start + script],
        cwd=ROOT, env=cluster.environment, text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


SILENT = """
import time
probe.LIMIT_S, probe.try_gpu = 3, lambda: time.sleep(1000)
with cluster():
    assert probe.usable_resources("auto").gpus == 1
    group = ray.util.placement_group([{"GPU": 1}])
    ray.get(group.ready(), timeout=60)
    assert probe.usable_resources("gpu").gpus == 1
    ray.util.remove_placement_group(group)
    ray.get(ray.remote(num_cpus=0, num_gpus=1)(lambda: None).remote(), timeout=60)
"""

DIES = """
import os
probe.try_gpu = lambda: os.abort()
with cluster():
    assert probe.usable_resources("auto").gpus == 0
"""

UNASKED = """
probe.try_gpu = None
with cluster():
    assert probe.usable_resources("cpu").gpus == 1
"""


@no_gpu
def test_a_gpu_that_is_busy_is_counted(cluster: Cluster) -> None:
    """With the try itself, or other work. No try is left behind that would take the GPU later."""
    lines = within(cluster, SILENT)
    assert len(lines) == 2
    assert all("could be tried within 3 s, perhaps because other work holds it" in x for x in lines)


@no_gpu
def test_a_driver_that_kills_the_process(cluster: Cluster) -> None:
    (line,) = within(cluster, DIES)
    assert line.startswith(f"computing on the CPU: {LINE}")
    assert "the process that tried it died (" in line


@no_gpu
def test_who_wants_the_cpu_does_not_wait_for_a_gpu(cluster: Cluster) -> None:
    assert within(cluster, UNASKED) == []
