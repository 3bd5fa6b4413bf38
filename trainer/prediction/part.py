"""A part of the answers: some photographs, and the file that keeps what a model says of them.

A part is answered alone, in batches that depend on its photographs and on nothing else: the same
bytes, whoever answers it and when. Its file records a fingerprint of all that it was made from, and
is kept as long as that agrees.
"""

import hashlib
import io
import pickle
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from alexnet import atomic
from alexnet.checkpoint import About
from alexnet.guess import none_of_these
from alexnet.pixels import MAX_PIXELS, ImageError, Limits, pillow_takes
from alexnet.predictor import BATCH_VIEWS, Predictor
from alexnet.store.models import load
from alexnet.store.url import Place
from pipeline.decoder import Decoder
from pipeline.sources.unlabelled import Photograph
from trainer.prediction.table import table

PART_PHOTOGRAPHS = 256
RULES = 2
"""Part of every fingerprint. Raise it when the same photograph gives other rows."""
FINGERPRINT = b"fingerprint"


@dataclass(frozen=True)
class Plan:
    """The photographs of a part. Compressed: of ten million, all plans are in memory at once."""

    number: int
    count: int
    content: bytes

    @classmethod
    def of(cls, number: int, photographs: Sequence[Photograph]) -> "Plan":
        content = pickle.dumps(photographs, pickle.HIGHEST_PROTOCOL)
        return cls(number, len(photographs), zlib.compress(content))

    @property
    def photographs(self) -> list[Photograph]:
        return pickle.loads(zlib.decompress(self.content))

    @property
    def file(self) -> str:
        return f"{self.number:07d}.parquet"


def read_part(path: Path) -> pa.Table:
    """The answers in a part's file."""
    return parquet.read_table(path).replace_schema_metadata(None)


def plan_parts(photographs: Iterable[Photograph]) -> Iterator[Plan]:
    """The photographs in parts of PART_PHOTOGRAPHS, the last one shorter."""
    number, waiting = 0, iter(photographs)
    while some := list(islice(waiting, PART_PHOTOGRAPHS)):
        yield Plan.of(number, some)
        number += 1


@dataclass(frozen=True)
class Question:
    """What is asked of each photograph."""

    model: Place
    """The folder or the URL of a step, so that all tasks load the same."""
    about: About
    views: int
    top: int
    """Labels of an answer; no more than there are classes."""
    gpu: bool
    asked: float | None = None
    """The least probability of an answer, in the place of the published one."""

    @property
    def min_probability(self) -> float | None:
        """The least probability of an answer: as asked, or else as published, as in the server."""
        return self.about.min_probability(self.views) if self.asked is None else self.asked

    @property
    def identity(self) -> str:
        """All that decides an answer, besides the photograph. GPUs round as CPUs do not. Of what
        the model was calibrated by, only what is used: other views may be calibrated meanwhile."""
        about = self.about.model_dump_json(include={"weights_sha256", "classes", "size", "rule"})
        used = f"{self.about.temperature(self.views)} {self.min_probability}"
        return f"{RULES} {self.views} {self.top} {'gpu' if self.gpu else 'cpu'} {used} {about}"


class Done(NamedTuple):
    """One part that is there."""

    photographs: int
    errors: int
    """Photographs that have no answer."""
    kept: bool
    """Whether an earlier run answered it."""


class Answerer:
    """Answers parts, on one device, with `threads` that decode and one that computes.

    More than one of the latter would move the last bits of what a CPU computes. The processes that
    decode end with the block of a `with`, or with this one.
    """

    def __init__(self, question: Question, folder: Path, threads: int) -> None:
        self._question, self._folder, self._threads = question, folder, threads
        self._decode = Decoder(Limits(MAX_PIXELS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._decode.__exit__(*error)

    def answer(self, plan: Plan) -> Done:
        """See that the part's file is in the folder. Raises UserError where the disk is full, where
        the model cannot be loaded, and where a decoder is ended from outside."""
        photographs = plan.photographs
        fingerprint = self._fingerprint(photographs)
        path = self._folder / plan.file
        if (kept := _kept(path, fingerprint)) is not None:
            return Done(plan.count, _errors(kept), kept=True)
        rows = self._answered(photographs)
        atomic.write(path, _dump(rows.replace_schema_metadata({FINGERPRINT: fingerprint})))
        return Done(plan.count, _errors(rows), kept=False)

    def _fingerprint(self, photographs: list[Photograph]) -> bytes:
        digest = hashlib.sha256(self._question.identity.encode())
        for photograph in photographs:
            try:
                stamp = photograph.reader.stamp(photograph.location)
            except OSError as error:
                stamp = str(error)
            words = (photograph.path, photograph.member or "", photograph.location, stamp)
            digest.update("\0".join((*words, "")).encode("utf-8", "surrogateescape"))
        return digest.hexdigest().encode()

    @cached_property
    def _predictor(self) -> Predictor:
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False  # as in the server
        loaded = load(self._question.model)
        asked = loaded._replace(about=self._question.about)  # it may be calibrated meanwhile
        return Predictor([asked], "cuda" if self._question.gpu else "cpu")

    def _answered(self, photographs: list[Photograph]) -> pa.Table:
        predictor, views, top = self._predictor, self._question.views, self._question.top
        most = BATCH_VIEWS[predictor.device.type] // views
        label_NT = np.zeros((len(photographs), top), np.int64)
        probability_NT = np.zeros((len(photographs), top), np.float32)
        errors: list[str | None] = [None] * len(photographs)
        waiting: dict[int, np.ndarray] = {}

        def answer() -> None:
            image_NSS3 = torch.from_numpy(np.stack([*waiting.values()]))
            vote_NVK = predictor.classify(image_NSS3.permute(0, 3, 1, 2), views)
            best = vote_NVK.mean(dim=1).topk(top)
            label_NT[[*waiting]], probability_NT[[*waiting]] = best.indices, best.values
            waiting.clear()

        with pillow_takes(MAX_PIXELS), ThreadPoolExecutor(self._threads) as pool:
            for number, image in enumerate(pool.map(self._image, photographs)):
                if isinstance(image, str):
                    errors[number] = image
                    continue
                waiting[number] = image
                if len(waiting) == most:
                    answer()
            if waiting:
                answer()
        least, classes = self._question.min_probability, self._question.about.classes
        none_N = [none_of_these(best, least) for best in probability_NT[:, 0].tolist()]
        return table(photographs, errors, classes, label_NT, probability_NT, none_N)

    def _image(self, photograph: Photograph) -> np.ndarray | str:
        """(S, S, 3) uint8, or why there is none."""
        about = self._question.about
        try:
            data = photograph.reader.read(photograph.location)
            return np.asarray(self._decode(data, about.size, about.rule))
        except ImageError as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)


def _kept(path: Path, fingerprint: bytes) -> pa.Table | None:
    """What an earlier run wrote, if that was made from the same and is still what it was."""
    try:
        found = parquet.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    return found if (found.schema.metadata or {}).get(FINGERPRINT) == fingerprint else None


def _errors(rows: pa.Table) -> int:
    return rows.num_rows - rows.column("error").null_count


def _dump(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    parquet.write_table(rows, file, write_page_checksum=True)
    return file.getvalue()
