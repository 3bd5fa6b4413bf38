"""A run goes on from its last checkpoint, whatever a kill has left of what Ray writes of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.conftest import ROOT
from tests.object_store import Server, environment
from trainer.loop.state import read
from trainer.on_ray import snapshot
from trainer.on_ray.launch import kept_checkpoint
from trainer.run import Run, RunError, find_run

EARLIER = ROOT / "tests" / "earlier"
STOPPED = EARLIER / "stopped" / "tiny"
WHOLE = (STOPPED / snapshot.FILE).read_bytes()
# Ray's of itself, in this process where it only reads.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
DAMAGED = [None, b"", b"\0" * 99, b"null", b"[]", b"{}", WHOLE[:1], WHOLE[:200], WHOLE[:-1]]


@pytest.fixture
def stopped(tmp_path: Path) -> Run:
    """A run that was stopped after three steps, whose one checkpoint Ray wrote of."""
    shutil.copytree(STOPPED, tmp_path / "runs" / "tiny")
    return find_run(tmp_path / "runs", "tiny")


def put(run: Run, content: bytes | None) -> Path:
    file = run.directory / snapshot.FILE
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
    return file


def test_what_fits_is_left_as_it_is(stopped: Run) -> None:
    file = stopped.directory / snapshot.FILE
    before = file.stat()
    assert snapshot.mend(stopped) is None
    assert (file.stat().st_ino, file.read_bytes()) == (before.st_ino, WHOLE)


@pytest.mark.parametrize(
    "content",
    [*DAMAGED, *(WHOLE[:cut] for cut in range(2, len(WHOLE), 37))],
    ids=lambda content: content and f"{content[:9]!r} {len(content)}",
)
def test_what_is_cut_is_made_again_as_ray_wrote_it(stopped: Run, content: bytes | None) -> None:
    file = put(stopped, content)
    told = snapshot.mend(stopped)
    assert told is not None
    assert told.endswith("the last one is step_00000003")
    assert file.read_bytes() == WHOLE
    assert snapshot.mend(stopped) is None


def test_it_goes_on_from_the_newest_that_is_whole(stopped: Run) -> None:
    """The newer ones were being copied; or were removed, as a damaged one's message advises."""
    whole = stopped.directory / "step_00000003"
    cut = stopped.directory / "step_00000005"
    shutil.copytree(whole, cut)
    state = cut / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    (stopped.directory / "step_00000007").mkdir()
    put(stopped, WHOLE.replace(b"step_00000003", b"step_00000009"))
    assert snapshot.mend(stopped)
    assert (stopped.directory / snapshot.FILE).read_bytes() == WHOLE
    shutil.rmtree(whole)
    put(stopped, b"")
    told = snapshot.mend(stopped)
    assert told is not None
    assert "none of its checkpoints is whole" in told
    assert not (stopped.directory / snapshot.FILE).exists()


def test_checkpoints_of_several_epochs_keep_their_order(stopped: Run) -> None:
    """The last epoch of three is not the best; a step within an epoch counts as 0."""
    content = torch.load(stopped.directory / "step_00000003" / "state.pt", weights_only=True)
    for step, position, errors in ((8, 0, [0.5]), (16, 0, [0.5, 0.25]), (24, 0, [0.5, 0.25, 0.75])):
        folder = stopped.directory / f"step_{step:08d}"
        folder.mkdir()
        stand = {"epoch": len(errors), "position": position, "step": step, "errors": errors}
        torch.save(content | {"stand": stand}, folder / "state.pt")
    put(stopped, b"")
    snapshot.mend(stopped)
    account = json.loads((stopped.directory / snapshot.FILE).read_bytes())
    found = [(r["checkpoint_dir_name"], r["metrics"]) for r in account["checkpoint_results"]]
    assert found == [
        (f"step_{step:08d}", {"top1": pytest.approx(top1, abs=1e-9)})
        for step, top1 in ((3, 0), (24, 0.25), (8, 0.5), (16, 0.75))
    ]
    assert account["checkpoint_report_indices"] == [0, 3, 1, 2]
    assert account["current_report_index"] == 4
    assert kept_checkpoint(stopped, best=False).name == "step_00000024"
    assert kept_checkpoint(stopped, best=True).name == "step_00000016"


def test_a_checkpoint_is_published_unless_ray_may_be_writing(stopped: Run) -> None:
    file = put(stopped, WHOLE[:200])
    with stopped.held(), pytest.raises(RunError, match="its checkpoints cannot be read"):
        kept_checkpoint(stopped, best=False)
    assert file.read_bytes() == WHOLE[:200]
    assert kept_checkpoint(stopped, best=False).name == "step_00000003"


def test_in_a_store_it_is_the_same(store_server: Server) -> None:
    """A damaged account, and a checkpoint that is not whole, of which there is no such object."""
    runs = StoreURL("s3://private/snapshots")
    with environment(store_server.environment()):
        store = Store(runs / "tiny")
        for file in (path for path in STOPPED.rglob("*") if path.is_file()):
            store.write(str(file.relative_to(STOPPED)), file)
        run = find_run(runs, "tiny")
        assert snapshot.mend(run) is None
        assert kept_checkpoint(run, best=False) == run.directory / "step_00000003"
        state = read(run.directory / "step_00000003")
        assert state.progress == read(STOPPED / "step_00000003").progress
        store.write(snapshot.FILE, WHOLE[:200])
        store.write("step_00000005/state.pt", b"another program's")
        assert kept_checkpoint(run, best=True) == run.directory / "step_00000003"
        assert store.read(snapshot.FILE) == WHOLE
        store.remove(store.names("step_00000003/"))
        told = snapshot.mend(run)
        assert told is not None
        assert "none of its checkpoints is whole" in told
        with pytest.raises(RunError, match="its checkpoints cannot be read"):
            kept_checkpoint(run, best=False)
