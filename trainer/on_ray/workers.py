"""How many tasks share work that needs no word between them, and what each may use."""

from dataclasses import dataclass

from trainer.on_ray.resources import Resources
from trainer.run import RunError


@dataclass(frozen=True)
class Workers:
    """How many tasks, and what each gets."""

    count: int
    threads: int
    gpu: bool

    @classmethod
    def of(cls, resources: Resources, asked: int | None, device: str) -> "Workers":
        """One a GPU or else one a CPU, unless `asked` for; `device` is auto, cpu or gpu.

        Raises RunError: Ray would wait for what the cluster does not have.
        """
        gpu = device == "gpu" or (device == "auto" and resources.gpus > 0)
        room = resources.room(gpu)
        count = asked or max(1, room)
        if count > room:
            needs = "a GPU and a CPU of one machine" if gpu else "a CPU"
            raise RunError(
                f"{count} worker(s) with {needs} each, but this cluster has room for {room}; "
                f"lower --workers{', or use --device cpu' if gpu else ''}"
            )
        return cls(count, resources.cpus_per_worker(count, gpu), gpu)
