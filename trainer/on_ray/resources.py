"""What the machines of a cluster have, and how much of it a worker may ask for."""

from typing import NamedTuple


class Machine(NamedTuple):
    """A node of the cluster."""

    cpus: int
    gpus: int


class Resources(NamedTuple):
    """What a cluster has."""

    machines: tuple[Machine, ...]

    @property
    def cpus(self) -> int:
        return sum(machine.cpus for machine in self.machines)

    @property
    def gpus(self) -> int:
        return sum(machine.gpus for machine in self.machines)

    def hosts(self, gpu: bool) -> list[Machine]:
        """The machines that a worker can run on: those with a CPU, and if `gpu` a GPU as well."""
        return [m for m in self.machines if m.cpus >= 1 and (m.gpus >= 1 or not gpu)]

    def room(self, gpu: bool, cpus: int = 1) -> int:
        """How many workers can run at once, each with so many CPUs and if `gpu` with a GPU."""
        return sum(
            min(machine.cpus // cpus, machine.gpus if gpu else machine.cpus)
            for machine in self.hosts(gpu)
        )

    def cpus_per_worker(self, workers: int, gpu: bool) -> int:
        """The most CPUs that each of `workers` may ask for so that all of them find room, and each
        finds it on any of its hosts; at least 1."""
        smallest = min((machine.cpus for machine in self.hosts(gpu)), default=1)
        fitting = (c for c in range(smallest, 1, -1) if self.room(gpu, c) >= workers)
        return next(fitting, 1)

    def without_gpus(self) -> "Resources":
        return Resources(tuple(machine._replace(gpus=0) for machine in self.machines))

    def __str__(self) -> str:
        return f"{self.cpus} CPUs and {self.gpus} GPUs"


def resources() -> Resources:
    """What the machines have that are in the cluster now, whether it is in use or not."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Resources(tuple(Machine(int(r.get("CPU", 0)), int(r.get("GPU", 0))) for r in alive))
