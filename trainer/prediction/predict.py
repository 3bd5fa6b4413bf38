"""alexnet predict: photographs in, a table of answers or a submission out, by any processes.

What is answered is kept part by part in a folder beside the table, until that is whole.
"""

import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from alexnet import atomic
from alexnet.command import UserError
from alexnet.store.models import pinned, read_about
from alexnet.store.url import Place
from pipeline.cluster import cluster
from pipeline.lock import alone
from pipeline.progress import ProgressBar
from pipeline.sources.unlabelled import Photograph, photographs
from trainer.on_ray.probe import usable_resources
from trainer.on_ray.workers import Workers
from trainer.prediction.part import Answerer, Done, Plan, Question, plan_parts, read_part
from trainer.prediction.submission import submission
from trainer.prediction.table import schema, writer

AHEAD = 2
"""Parts that are given to a process at once: the next begins without a word from here."""


class Prediction(NamedTuple):
    """What came of all photographs."""

    photographs: int
    errors: int
    """Photographs that have no answer."""
    kept: int
    """Photographs that an earlier run, which was interrupted, had answered."""


def predict(
    model: Place,
    sources: Sequence[str],
    out: Path,
    *,
    devkit: Path | None = None,
    views: int,
    top: int,
    min_probability: float | None,
    workers: int | None,
    device: str,
) -> Prediction:
    """Write what `model` answers about the photographs of `sources` to `out`, with the ids of
    `devkit` as a submission.

    The order is that of the sources or of the submission, and the bytes are the same for any number
    of workers and interruptions, on processors or GPUs of one kind. Raises UserError.
    """
    if out.exists():
        raise UserError(f"{out}: the file is there already; remove it, or name another")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no such folder; make it first")
    step = pinned(model)
    about = read_about(step)
    asked: Iterable[Photograph] = photographs(sources)
    if devkit:
        asked, write = submission(asked, devkit, about.classes)
    else:
        write = writer(out)
    plans = list(plan_parts(asked))
    if not plans:
        raise UserError(f"{', '.join(map(str, sources))}: there are no photographs in it")
    parts = out.absolute().with_name(f"{out.name}.parts")
    earlier = parts.exists()
    parts.mkdir(exist_ok=True)
    with alone(parts / ".lock", f"{out}: another process is writing it; wait until it ends"):
        if earlier:
            print(f"{parts}: an earlier run was interrupted; what still holds of it is kept")
        with cluster():
            team = Workers.of(usable_resources(device), workers, device)
            top = min(top, len(about.classes))
            question = Question(step, about, views, top, team.gpu, min_probability)
            done = list(_answered(question, plans, parts, team))
        for partial in out.absolute().parent.glob(f".{out.name}.*{atomic.PARTIAL}"):
            partial.unlink(missing_ok=True)  # of a run that was killed
        with atomic.writing(out.absolute()) as file:
            tables = (read_part(parts / plan.file) for plan in plans)
            write(file, schema(question.top), tables)
    shutil.rmtree(parts)
    return Prediction(
        sum(part.photographs for part in done),
        sum(part.errors for part in done),
        sum(part.photographs for part in done if part.kept),
    )


def _answered(question: Question, plans: list[Plan], parts: Path, team: Workers) -> Iterator[Done]:
    """Every part, in whatever order; within a `cluster`."""
    import ray

    remote = ray.remote(num_cpus=team.threads, num_gpus=int(team.gpu), max_restarts=3)(Answerer)
    answerers = [
        remote.options(max_task_retries=3).remote(question, parts, team.threads)
        for _ in range(min(team.count, len(plans)))
    ]
    waiting = deque(plans)
    running: dict = {}  # {reference to a part: who answers it}
    with ProgressBar("predict", sum(plan.count for plan in plans), "images") as progress:
        free = deque(answerers * AHEAD)
        while waiting or running:
            while waiting and free:
                answerer = free.popleft()
                running[answerer.answer.remote(waiting.popleft())] = answerer
            (ready,), _ = ray.wait(list(running))
            free.append(running.pop(ready))
            try:
                part = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a process that predicts died ({error}); if memory ran out, lower --workers; "
                    "run the same command again, which keeps finished parts"
                ) from None
            yield part
            progress.advance(part.photographs)
