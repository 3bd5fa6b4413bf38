"""What the benchmark compares with does the same work."""

from pathlib import Path

from pipeline.bench import ours_packing
from pipeline.peers import packing
from pipeline.shard import Job
from pipeline.sources import open_source
from pipeline.sources.source import VAL_FRACTION


def test_the_packing_loop_makes_the_same_jpegs(photographs: Path, tmp_path: Path) -> None:
    source = open_source(str(photographs), VAL_FRACTION, None)
    job = Job("train", 0, source.splits["train"][:9], 128)
    ours = ours_packing(source.reader, job, tmp_path)
    loop = packing([Path(sample.location) for sample in job.samples], 128)
    assert next(ours).tolist() == next(loop).tolist()
