"""Whether torch can use the GPUs that Ray has found.

Ray counts what NVIDIA's management library (NVML) lists. It does not ask whether torch was built
for CUDA, nor whether the driver is new enough for it.
"""

import ctypes
import sys
from typing import NamedTuple

import torch

from trainer.on_ray.resources import Resources, resources
from trainer.run import RunError

LIMIT_S = 60.0
"""Time for all machines at once; a process that imports torch from a slow disk takes a third."""


class Driver(NamedTuple):
    """NVIDIA's, as NVML tells."""

    version: str
    cuda: str
    """The newest CUDA that it supports."""


class Finding(NamedTuple):
    """What came of using a GPU."""

    torch: str
    """The version of torch."""
    cuda: str | None
    """Which torch was built for; None: a build for the CPU."""
    driver: Driver | None
    """None where there is none."""
    error: str | None
    """What torch said; None: it can use the GPU."""

    @property
    def trouble(self) -> str | None:
        """Why torch cannot use the GPU, and the remedy; None where it can."""
        if self.error is None:
            return None
        driver = (
            f"NVIDIA driver {self.driver.version}, which supports CUDA up to {self.driver.cuda}"
            if self.driver
            else "no NVIDIA driver"
        )
        if self.cuda is None:
            return (
                f"torch {self.torch} is built without CUDA (found {driver}); install a torch that "
                "is built for CUDA"
            )
        reason = f"torch {self.torch} is built for CUDA {self.cuda} (found {driver}): {self.error}"
        if self.driver and _major(self.driver.cuda) >= _major(self.cuda):
            return f"{reason}; look at the GPU with `nvidia-smi`"
        return f"{reason}; install an NVIDIA driver that supports CUDA {self.cuda}"


def usable_resources(device: str) -> Resources:
    """What the machines have that are in the cluster now, asked for on `device`: auto, cpu or gpu.

    Where torch cannot use a GPU of one of them, all GPUs are left out for auto, which is told on
    stderr: Ray takes whichever is free. For gpu this raises RunError.
    """
    found = resources()
    if device == "cpu" or not found.gpus or not (trouble := _trouble()):
        return found
    line = f"{trouble}, or use --device cpu"
    if device == "gpu":
        raise RunError(line)
    print(f"computing on the CPU: {line}", file=sys.stderr, flush=True)
    return found.without_gpus()


def _trouble() -> str | None:
    """The first machine whose GPUs torch cannot use, why, and the remedy."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, num_gpus=1, max_retries=0)(try_gpu)
    hosts = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("GPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            finding = task.options(scheduling_strategy=there).remote()
            hosts[finding] = node["NodeManagerHostname"]
    ready, silent = ray.wait(list(hosts), num_returns=len(hosts), timeout=LIMIT_S)
    for finding in silent:
        # It would take the GPU later, from a worker that needs it.
        ray.cancel(finding, force=True)
        print(
            f"no GPU of {hosts[finding]} could be tried within {LIMIT_S:.0f} s, perhaps because "
            "other work holds it; it is counted as usable",
            file=sys.stderr,
            flush=True,
        )
    for finding in ready:
        try:
            trouble = ray.get(finding).trouble
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            trouble = f"the process that tried it died ({reason}); look at it with `nvidia-smi`"
        if trouble:
            return f"torch cannot use the GPU of {hosts[finding]}: {trouble}"
    return None


def try_gpu() -> Finding:
    """Multiply two matrices on the GPU that this process sees."""
    error = None
    try:
        ones = torch.ones(64, 64, device="cuda")
        if (ones @ ones).sum().item() != 64**3:
            error = "a matrix product came out wrong"
    except Exception as raised:
        error = (str(raised) or repr(raised)).splitlines()[0].split(". ")[0]
    return Finding(torch.__version__, torch.version.cuda, _driver(), error)


def _driver() -> Driver | None:
    version, cuda = ctypes.create_string_buffer(80), ctypes.c_int()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        failed = (
            nvml.nvmlInit_v2()
            or nvml.nvmlSystemGetDriverVersion(version, len(version))
            or nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
        )
    except (OSError, AttributeError):  # no such library, or an old one without these functions
        return None
    if failed:
        return None
    return Driver(version.value.decode(), f"{cuda.value // 1000}.{cuda.value % 1000 // 10}")


def _major(version: str) -> int:
    return int(version.split(".")[0])
