"""Imagenette: ten classes of ImageNet that are easy to tell apart, 13,394 photographs.

https://github.com/fastai/imagenette; here with the shorter side at 320 pixels.
"""

from alexnet.cache import cache_folder
from pipeline.sources.download import Remote, unpacked
from pipeline.sources.folder import folder_source
from pipeline.sources.source import Source

FOLDER = "imagenette2-320"
ARCHIVE = Remote(
    url=f"https://s3.amazonaws.com/fast-ai-imageclas/{FOLDER}.tgz",
    size=341_663_724,
    sha256="569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
)
CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def imagenette_source(class_names: dict[str, str], archive: Remote = ARCHIVE) -> Source:
    """Fetched once into the user's cache; `class_names` go before its own. Raises DatasetError."""
    folder = unpacked(archive, cache_folder() / FOLDER)
    # It brings train/ and val/: there is nothing to hold out.
    return folder_source(folder, val_fraction=0, class_names=CLASSES | class_names)
