"""Photographs -> dataset: one Ray task a shard, the same bytes whatever the number of tasks."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet import atomic
from alexnet.pixels import MAX_PIXELS, PACKED
from pipeline.cluster import cluster
from pipeline.lock import alone
from pipeline.manifest import DatasetError, Manifest, SplitManifest, SplitName
from pipeline.progress import ProgressBar
from pipeline.shard import JPEG_QUALITY, RECORDS, PackedShard, ShardPlan, pack_shard
from pipeline.sources.source import Source
from pipeline.statistics import Sums

SHARD_SAMPLES = 1000


class Finished(NamedTuple):
    """One finished task."""

    plan: ShardPlan
    shard: PackedShard


def pack(
    source: Source,
    directory: Path,
    size: int,
    max_quarantined: float,
    max_pixels: int = MAX_PIXELS,
) -> Manifest:
    """Write `source` as a dataset of size x size images into `directory`.

    The manifest is written last. Interrupted and run again, it keeps finished shards and ends
    with the same bytes. Photographs of more than `max_pixels` are refused. Raises DatasetError if
    the directory holds a dataset already, or if more than the share `max_quarantined` of all files
    cannot be used.
    """
    if (directory / "manifest.json").exists():
        shutil.rmtree(directory / RECORDS, ignore_errors=True)
        raise DatasetError(
            f"{directory}: there is a dataset already; remove it, or name another folder"
        )
    plans = [
        ShardPlan(
            split,
            number,
            samples[number * SHARD_SAMPLES : (number + 1) * SHARD_SAMPLES],
            size,
            max_pixels,
        )
        for split, samples in source.splits.items()
        for number in range(ceil(len(samples) / SHARD_SAMPLES))
    ]
    total = sum(map(len, source.splits.values()))
    for split in source.splits:
        (directory / split).mkdir(parents=True, exist_ok=True)
    (directory / RECORDS).mkdir(exist_ok=True)
    busy = f"{directory}: another process is packing there; wait until it ends"
    with alone(directory / RECORDS / "lock", busy):
        sums = Sums.zero(size)
        packed = sorted(_run(source, plans, directory, total, sums), key=_place)
        _sweep(directory, packed)
        refused = [row for _, shard in packed for row in shard.refused]
        atomic.write(directory / "quarantine.jsonl", _lines(refused))
        _judge(refused, total, directory, max_quarantined)
        _check_classes(source, packed)
        pairs = duplicates(packed)
        atomic.write(directory / "duplicates.jsonl", _lines(pairs))
        manifest = Manifest(
            size=size,
            filter=PACKED.filter,
            jpeg_quality=JPEG_QUALITY,
            classes=source.classes,
            source=hashlib.sha256("".join(s.source for _, s in packed).encode()).hexdigest(),
            train=_split(directory, "train", packed),
            val=_split(directory, "val", packed),
            colour=sums.colour(),
            mean_sha256=atomic.write_array(directory / "mean.npy", sums.mean_image()),
            quarantined=len(refused),
            duplicates=len(pairs),
        )
        atomic.write(directory / "manifest.json", manifest.model_dump_json(indent=2).encode())
    shutil.rmtree(directory / RECORDS)
    return manifest


def duplicates(packed: list[Finished]) -> list[dict[str, str]]:
    """Validation images that are among the training images, to the byte once packed.

    Accuracy on them says nothing about images never seen.
    """
    val: dict[bytes, list[str]] = {}
    for digest, key in _digests(packed, "val"):
        val.setdefault(digest, []).append(key)
    return [
        {"val": held_out, "train": key}
        for digest, key in _digests(packed, "train")
        for held_out in val.pop(digest, ())
    ]


def _digests(packed: list[Finished], split: SplitName) -> Iterator[tuple[bytes, str]]:
    """(digest of the JPEG, key) of every image of a split, in order."""
    for plan, shard in packed:
        if plan.split == split:
            for position, digest_D in zip(shard.packed, shard.digest_ND, strict=True):
                yield digest_D.tobytes(), plan.samples[position].key


def _run(
    source: Source, plans: list[ShardPlan], directory: Path, total: int, sums: Sums
) -> Iterator[Finished]:
    """What Ray tasks make of the plans, in whatever order they end; adds up the training sums."""
    with cluster(), ProgressBar("pack", total, "images") as progress:
        import ray

        task = ray.remote(num_cpus=1, num_returns=2)(pack_shard)
        reader, waiting = ray.put(source.reader), iter(plans)
        running: dict = {}  # {reference to a shard: (its plan, reference to its sums)}
        while True:
            # A few more than there are processors: what waits holds its list of samples in memory.
            room = 2 * max(1, int(ray.cluster_resources().get("CPU", 0))) - len(running)
            for plan in islice(waiting, max(0, room)):
                shard, shard_sums = task.remote(reader, plan, directory.absolute())
                running[shard] = plan, shard_sums
            if not running:
                return
            done, _ = ray.wait(list(running))
            for reference in done:
                plan, shard_sums = running.pop(reference)
                try:
                    if plan.split == "train":
                        sums.merge(ray.get(shard_sums))
                    yield Finished(plan, ray.get(reference))
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise DatasetError(
                        f"{directory / plan.split / plan.file}: the process that packed it died "
                        f"({error}); run the same command again, which keeps finished shards"
                    ) from None
                progress.advance(len(plan.samples))


def _split(directory: Path, split: SplitName, packed: list[Finished]) -> SplitManifest:
    """Write the split's index."""
    shards = [shard for plan, shard in packed if plan.split == split]
    index = np.concatenate([shard.index for shard in shards])
    return SplitManifest(
        samples=len(index),
        shards=tuple(shard.file for shard in shards),
        index_sha256=atomic.write_array(directory / split / "index.npy", index),
    )


def _sweep(directory: Path, packed: list[Finished]) -> None:
    """Remove shards of an earlier, larger source, and what killed processes were writing."""
    ours = {directory / plan.split / plan.file for plan, _ in packed}
    for path in (*directory.glob("*/*.tar"), *directory.rglob(f".*{atomic.PARTIAL}")):
        if path not in ours:
            path.unlink(missing_ok=True)


def _place(packed: Finished) -> tuple[str, int]:
    return packed.plan.split, packed.plan.number


def _judge(
    refused: list[dict[str, str]], total: int, directory: Path, max_quarantined: float
) -> None:
    if len(refused) > max_quarantined * total:
        kinds = Counter(row["kind"] for row in refused).most_common()
        raise DatasetError(
            f"{len(refused):,} of {total:,} files cannot be used "
            f"({', '.join(f'{count:,} {kind}' for kind, count in kinds)}), more than the share of "
            f"{max_quarantined:g} that --max-quarantined allows; "
            f"{directory / 'quarantine.jsonl'} lists them with the reasons: repair or remove them, "
            "or allow more"
        )


def _check_classes(source: Source, packed: list[Finished]) -> None:
    train = np.concatenate(
        [shard.index["label"] for plan, shard in packed if plan.split == "train"]
    )
    for label, count in enumerate(np.bincount(train, minlength=len(source.classes))):
        if not count:
            raise DatasetError(
                f"class {source.classes[label].id} has no usable training image; "
                "repair its files, or remove the class"
            )


def _lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
