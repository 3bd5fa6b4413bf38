"""What the commands `pack`, `show` and `verify` do; each returns its exit status."""

from pipeline.arguments import Pack, Show, Verify
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.sources import Columns, open_source
from pipeline.table import describe, uneven
from pipeline.verify import damages


def pack(options: Pack) -> int:
    source = open_source(
        options.source,
        options.val_fraction,
        options.class_names,
        options.labels,
        Columns(options.file_column, options.label_column),
    )
    from pipeline.pack import pack  # Ray takes seconds to import; errors above need none of it

    manifest = pack(
        source, options.dataset, options.size, options.max_quarantined, options.max_pixels
    )
    print(
        f"{options.dataset}: {manifest.train.samples:,} training and "
        f"{manifest.val.samples:,} validation images of {manifest.size} x {manifest.size}, "
        f"{len(manifest.classes)} classes, {manifest.quarantined} files quarantined"
    )
    if manifest.duplicates:
        print(
            f"{manifest.duplicates} validation images are also among the training images; "
            f"{options.dataset / 'duplicates.jsonl'} lists them"
        )
    for line in uneven(Dataset(options.dataset)):
        print(line)
    return 0


def show(options: Show) -> int:
    dataset = Dataset(options.dataset)
    print(describe(dataset))
    crop = options.crop or dataset.manifest.size * 7 // 8
    if crop > dataset.manifest.size:
        raise DatasetError(f"--crop is {crop}, but the images are {dataset.manifest.size} wide")
    from pipeline.sheet import draw_sheet  # DALI and torch; the table needs neither

    draw_sheet(dataset, crop, options.sheet)
    print(f"\n{options.sheet} shows what the network sees of some of them")
    return 0


def verify(options: Verify) -> int:
    dataset = Dataset(options.dataset)
    damaged = False
    for line in damages(dataset):
        damaged = True
        print(line)
    if damaged:
        print(f"{options.dataset} is damaged: copy it again, or pack the source again")
        return 1
    manifest = dataset.manifest
    print(
        f"{options.dataset}: no damage in {manifest.train.samples + manifest.val.samples:,} "
        f"images of {len(manifest.train.shards) + len(manifest.val.shards)} shards"
    )
    return 0
