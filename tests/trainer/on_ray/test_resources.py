"""Every worker that is asked for finds a machine to run on, whatever the machines are."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nodes import ray_nodes
from tests.trainer.test_train import SHORT, arguments
from trainer.on_ray.resources import Machine, Resources

machines = st.lists(st.builds(Machine, st.integers(0, 9), st.integers(0, 3)), max_size=4)


def placed(resources: Resources, workers: int, cpus: int, gpu: bool) -> bool:
    """Whether they all run at once, put one by one on the first machine that has enough left."""
    left = [list(machine) for machine in resources.machines]
    for _ in range(workers):
        host = next((m for m in left if m[0] >= cpus and m[1] >= int(gpu)), None)
        if host is None:
            return False
        host[0] -= cpus
        host[1] -= int(gpu)
    return True


@given(machines, st.integers(1, 12), st.booleans())
def test_what_is_asked_for_is_there(found: list[Machine], workers: int, gpu: bool) -> None:
    resources = Resources(tuple(found))
    room, cpus = resources.room(gpu), resources.cpus_per_worker(workers, gpu)
    assert cpus >= 1
    assert placed(resources, room, 1, gpu)
    assert not placed(resources, room + 1, 1, gpu)
    assert placed(resources, workers, cpus, gpu) == (workers <= room)
    if workers <= room:
        assert all(machine.cpus >= cpus for machine in resources.hosts(gpu))


def test_machines_of_different_sizes() -> None:
    resources = Resources((Machine(0, 0), Machine(4, 0), Machine(8, 0)))
    assert (resources.cpus, resources.gpus, len(resources.hosts(gpu=False))) == (12, 0, 2)
    asked = [resources.cpus_per_worker(workers, gpu=False) for workers in (1, 2, 3, 4, 6, 7, 12)]
    assert asked == [4, 4, 4, 2, 2, 1, 1]
    gpus = Resources((Machine(16, 0), Machine(64, 8)))
    assert [gpus.cpus_per_worker(workers, gpu=True) for workers in (1, 8)] == [64, 8]


@pytest.mark.slow
def test_on_machines_of_different_sizes_a_run_and_an_evaluation_start(
    dataset: Path, tmp_path: Path, run: Callable
) -> None:
    """On a head without CPUs, and machines of one and of two: no machine has all three."""
    with ray_nodes() as cluster:
        for cpus in (0, 1, 2):
            cluster.start(cpus=cpus)
        done = run(*arguments("r", dataset, tmp_path), *SHORT, env=cluster.environment)
        assert done.returncode == 0, done.stderr
        done = run(
            "trainer", "evaluate", tmp_path / "models" / "r", "--data", dataset, "--workers", "1",
            env=cluster.environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
