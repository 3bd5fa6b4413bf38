"""python -m pipeline: photographs to a packed dataset."""

import argparse
import sys
from pathlib import Path

from alexnet.command import Parser, run
from alexnet.pixels import SIZE
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.sources import BUILTIN, IMAGENETTE, open_source
from pipeline.sources.ilsvrc import TRAIN, VAL
from pipeline.sources.source import MAX_QUARANTINED, VAL_FRACTION
from pipeline.table import describe
from pipeline.verify import damages


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _pack(options: argparse.Namespace) -> int:
    if not 64 <= options.size <= 1024:
        raise DatasetError(f"--size is {options.size}; it must lie between 64 and 1024 pixels")
    source = open_source(options.source, options.val_fraction, options.class_names)
    from pipeline.pack import pack  # Ray takes seconds to import; errors above need none of it

    manifest = pack(source, options.dataset, options.size, options.max_quarantined)
    print(
        f"{options.dataset}: {manifest.train.samples:,} training and "
        f"{manifest.val.samples:,} validation pictures of {manifest.size} x {manifest.size}, "
        f"{len(manifest.classes)} classes, {manifest.quarantined} quarantined"
    )
    if manifest.duplicates:
        print(
            f"{manifest.duplicates} validation pictures are also among the training pictures; "
            f"{options.dataset / 'duplicates.jsonl'} says which"
        )
    return 0


def _show(options: argparse.Namespace) -> int:
    dataset = Dataset(options.dataset)
    print(describe(dataset))
    crop = options.crop or dataset.manifest.size * 7 // 8
    if not 0 < crop <= dataset.manifest.size:
        raise DatasetError(f"--crop is {crop}, the pictures are {dataset.manifest.size} wide")
    from pipeline.sheet import draw_sheet  # DALI and torch; the table needs neither

    draw_sheet(dataset, crop, options.sheet)
    print(f"\n{options.sheet}: what the network sees of some of them")
    return 0


def _verify(options: argparse.Namespace) -> int:
    dataset = Dataset(options.dataset)
    damaged = False
    for line in damages(dataset):
        damaged = True
        print(line)
    if damaged:
        print(f"{options.dataset}: damaged; copy it again, or pack the source again")
        return 1
    manifest = dataset.manifest
    print(
        f"{options.dataset}: no damage in {manifest.train.samples + manifest.val.samples:,} "
        f"pictures of {len(manifest.train.shards) + len(manifest.val.shards)} shards"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pack = commands.add_parser("pack", help="pack photographs into a dataset")
    pack.set_defaults(run=_pack)
    pack.add_argument(
        "source",
        help="a folder of class folders, or one with train/ and val/ of class folders each; "
        "a folder of WebDataset shards *.tar, or with train/ and val/ of them; "
        f"a folder with {TRAIN}, {VAL} and the devkit, as distributed; "
        f"or a word, {IMAGENETTE}: ten classes of ImageNet, 340 MB to download, "
        f"or {BUILTIN}: two thousand drawn pictures of ten classes",
    )
    pack.add_argument("dataset", type=Path, help="the directory to write")
    pack.add_argument(
        "--size", type=int, default=SIZE, help="rows and columns of each picture (%(default)s)"
    )
    pack.add_argument(
        "--val-fraction",
        type=float,
        default=VAL_FRACTION,
        help="share of each class held out where SOURCE has no val/ (%(default)s)",
    )
    pack.add_argument(
        "--class-names",
        type=Path,
        help="file of lines `ID name`, as ImageNet's synset_words.txt; "
        "for shards line n is class n, from 0",
    )
    pack.add_argument(
        "--max-quarantined",
        type=float,
        default=MAX_QUARANTINED,
        help="fail above this share of files that cannot be used (%(default)s)",
    )

    show = commands.add_parser("show", help="what is in a dataset, and how the network sees it")
    show.set_defaults(run=_show)
    show.add_argument("dataset", type=Path)
    show.add_argument(
        "--sheet",
        type=Path,
        default=Path("sheet.png"),
        help="the contact sheet to write (%(default)s)",
    )
    show.add_argument(
        "--crop", type=int, help="rows and columns of a crop (7/8 of the pictures: 224 of 256)"
    )

    verify = commands.add_parser("verify", help="check every hash, index entry and JPEG")
    verify.set_defaults(run=_verify)
    verify.add_argument("dataset", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
