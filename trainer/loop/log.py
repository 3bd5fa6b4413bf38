"""What rank 0 writes down of a run: a line of JSON for programs, TensorBoard events for people."""

import json
import time
from math import inf
from typing import Any

from torch import Tensor

from alexnet.checkpoint import Accuracy
from trainer.run import Run

IMAGES, IMAGES_S = 16, 60.0
"""Augmented images shown at the start of an epoch, and the seconds until the next are: to encode
them takes half a second, on the thread that trains."""


class Log:
    def __init__(self, run: Run, step: int) -> None:
        """`step` is where the run goes on; what TensorBoard shows beyond was done in vain."""
        self._journal = run.folder.journal(step)
        self._shown_at = -inf

    def train(self, *, step: int, **fields: float) -> None:
        self._write("train", step=step, **fields)
        shown = {name: fields[name] for name in ("loss", "gradient_norm", "rate", "images_per_s")}
        shown |= {"error/train_top1": 1 - fields["top1"], "loader_wait": fields["wait"]}
        for name, value in shown.items():
            self._journal.board.add_scalar(name, value, step)

    def val(self, accuracy: Accuracy, *, step: int, epoch: int) -> None:
        self._write("val", step=step, epoch=epoch, **accuracy.model_dump())
        for name, right in (("top1", accuracy.top1), ("top5", accuracy.top5)):
            tag = f"error/validation_{name}_{accuracy.views}_views"
            self._journal.board.add_scalar(tag, 1 - right / accuracy.pictures, step)
        if accuracy.macro_top1 is not None:
            tag = f"error/validation_macro_top1_{accuracy.views}_views"
            self._journal.board.add_scalar(tag, 1 - accuracy.macro_top1, step)

    def images(self, image_NCHW: Tensor, mean_3HW: Tensor, step: int) -> None:
        """The first training images of an epoch, as the network sees them, the mean put back;
        at most once in IMAGES_S."""
        now = time.monotonic()
        if now - self._shown_at < IMAGES_S:
            return
        self._shown_at = now
        shown = image_NCHW[:IMAGES].float() + mean_3HW
        self._journal.board.add_images(
            "training_pictures", shown.clamp(0, 255).byte().cpu().numpy(), step
        )

    def kernels(self, weight_KCHW: Tensor, step: int) -> None:
        """conv1, each kernel scaled to its own range: the paper's Figure 3."""
        low_K111, high_K111 = (
            edge(weight_KCHW.detach().float().cpu(), (1, 2, 3))
            for edge in (Tensor.amin, Tensor.amax)
        )
        shown = (weight_KCHW.detach().cpu() - low_K111[:, None, None, None]) / (
            high_K111 - low_K111
        )[:, None, None, None]
        self._journal.board.add_images("conv1", shown.numpy(), step)

    def _write(self, kind: str, **fields: Any) -> None:
        self._journal.write(json.dumps({"kind": kind, **fields, "time": time.time()}))

    def keep(self) -> None:
        """Return once nothing that was told can get lost. Raises StoreError."""
        self._journal.keep()

    def close(self) -> None:
        self._journal.close()
