"""What TensorBoard is shown of a run."""

from pathlib import Path

import pytest
import torch
from tensorboardX.proto import event_pb2

from tests.trainer.loop.test_loop import a_run
from tests.trainer.test_train import records
from trainer.loop import log
from trainer.loop.log import Log


@pytest.mark.parametrize(("seconds", "shown"), [(1000.0, [1]), (0.0, [1, 2, 3])])
def test_images_are_shown_once_in_a_while(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, shown: list[int]
) -> None:
    monkeypatch.setattr(log, "IMAGES_S", seconds)
    run = a_run(dataset, tmp_path, "short")
    written = Log(run, 0)
    for step in (1, 2, 3):
        written.images(torch.zeros(4, 3, 64, 64), torch.zeros(3, 64, 64), step)
    written.close()
    (file,) = run.board.iterdir()
    told = map(event_pb2.Event.FromString, records(file.read_bytes()))
    assert [event.step for event in told if event.summary.value] == shown
