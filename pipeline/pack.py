"""Photographs -> dataset: one Ray task a shard, the same bytes whatever the number of tasks."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import ceil
from typing import NamedTuple

import numpy as np

from alexnet.pixels import MAX_PIXELS, PACKED
from alexnet.store.url import Place, StoreURL
from pipeline.cluster import cluster
from pipeline.destination import MANIFEST, Destination, array_bytes, open_destination
from pipeline.manifest import DatasetError, Manifest, SplitManifest, SplitName
from pipeline.progress import ProgressBar
from pipeline.shard import JPEG_QUALITY, PackedShard, ShardPlan, pack_shard
from pipeline.sources.source import Source
from pipeline.statistics import Sums

SHARD_SAMPLES = 1000


class Finished(NamedTuple):
    """One finished task."""

    plan: ShardPlan
    shard: PackedShard


def pack(
    source: Source,
    place: Place,
    size: int,
    max_quarantined: float,
    max_pixels: int = MAX_PIXELS,
) -> Manifest:
    """Write `source` as a dataset of size x size images into a folder, or below a URL.

    The manifest is written last. Interrupted and run again, it keeps finished shards and ends
    with the same bytes. Photographs of more than `max_pixels` are refused. Raises DatasetError if
    there is a dataset already, or if more than the share `max_quarantined` of all files
    cannot be used.
    """
    destination = open_destination(place)
    _refuse_another(destination, place)
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
    busy = f"{place}: another process is packing there; wait until it ends"
    with destination.alone(busy):
        _refuse_another(destination, place)  # which it has ended meanwhile
        sums = Sums.zero(size)
        packed = sorted(_run(source, plans, place, total, sums), key=_place)
        destination.sweep({plan.name for plan, _ in packed})
        refused = [row for _, shard in packed for row in shard.refused]
        destination.write("quarantine.jsonl", _lines(refused))
        _judge(refused, total, place, max_quarantined)
        _check_classes(source, packed)
        pairs = duplicates(packed)
        destination.write("duplicates.jsonl", _lines(pairs))
        manifest = Manifest(
            size=size,
            filter=PACKED.filter,
            jpeg_quality=JPEG_QUALITY,
            classes=source.classes,
            source=hashlib.sha256("".join(s.source for _, s in packed).encode()).hexdigest(),
            train=_split(destination, "train", packed),
            val=_split(destination, "val", packed),
            colour=sums.colour(),
            mean_sha256=_written(destination, "mean.npy", sums.mean_image()),
            quarantined=len(refused),
            duplicates=len(pairs),
        )
        destination.end(manifest.model_dump_json(indent=2).encode())
    destination.forget()
    return manifest


def _refuse_another(destination: Destination, place: Place) -> None:
    if destination.has(MANIFEST):
        destination.forget()
        raise DatasetError(
            f"{place}: there is a dataset already; remove it, or name another "
            f"{'URL' if isinstance(place, StoreURL) else 'folder'}"
        )


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
    source: Source, plans: list[ShardPlan], place: Place, total: int, sums: Sums
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
                shard, shard_sums = task.remote(reader, plan, place.absolute())
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
                        f"{place / plan.name}: the process that packed it died "
                        f"({error}); run the same command again, which keeps finished shards"
                    ) from None
                progress.advance(len(plan.samples))


def _split(destination: Destination, split: SplitName, packed: list[Finished]) -> SplitManifest:
    """Write the split's index."""
    shards = [shard for plan, shard in packed if plan.split == split]
    index = np.concatenate([shard.index for shard in shards])
    return SplitManifest(
        samples=len(index),
        shards=tuple(shard.file for shard in shards),
        index_sha256=_written(destination, f"{split}/index.npy", index),
    )


def _written(destination: Destination, name: str, array: np.ndarray) -> str:
    """Writes an .npy file; returns its SHA-256."""
    data = array_bytes(array)
    destination.write(name, data)
    return hashlib.sha256(data).hexdigest()


def _place(packed: Finished) -> tuple[str, int]:
    return packed.plan.split, packed.plan.number


def _judge(refused: list[dict[str, str]], total: int, place: Place, max_quarantined: float) -> None:
    if len(refused) > max_quarantined * total:
        kinds = Counter(row["kind"] for row in refused).most_common()
        raise DatasetError(
            f"{len(refused):,} of {total:,} files cannot be used "
            f"({', '.join(f'{count:,} {kind}' for kind, count in kinds)}), more than the share of "
            f"{max_quarantined:g} that --max-quarantined allows; "
            f"{place / 'quarantine.jsonl'} lists them with the reasons: repair or remove them, "
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
