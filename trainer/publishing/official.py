"""The word `torchvision`: its official AlexNet, fetched, checked, and published with the names of
ImageNet's classes."""

import os
from pathlib import Path
from typing import NamedTuple

from alexnet.cache import cache_folder
from alexnet.store.models import is_published, pinned, read_about
from alexnet.store.url import Place
from pipeline.sources.download import Remote, alone, download
from trainer.publishing.imports import publish_import
from trainer.publishing.weight_files import ForeignError

VARIABLE = "ALEXNET_TORCHVISION_URL"
"""Environment variable with another address of the same file: a mirror's, or file:///PATH."""
FILE = Remote(
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    size=244_408_911,
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
)
"""`AlexNet_Weights.IMAGENET1K_V1`; the name has the first digits of the SHA-256."""
CLASSES = Path(__file__).with_name("imagenet.txt")
"""As Caffe's synset_words.txt; imagenet.txt.license says whose words they are."""


class Official(NamedTuple):
    directory: Place
    """models/NAME/STEP."""
    new: bool
    """Whether it has been published just now."""


def publish_official(
    name: str, classes: Path | None, models: Place, file: Remote = FILE
) -> Official:
    """torchvision's AlexNet as models/NAME, fetched into the user's cache and published unless that
    has been done; whoever wants the same meanwhile waits.

    `classes` as `read_classes` takes it; by default ImageNet's. Raises ForeignError where `name` is
    another model's, and DatasetError where the file cannot be had.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file.url.rpartition("/")[2]
    with alone(path.with_name(f"{path.name}.lock")):
        if is_published(models / name):
            directory = pinned(models / name)
            if read_about(directory).recipe.get("sha256") != file.sha256:
                raise ForeignError(
                    f"{models / name}: the model of this name is not torchvision's; move it away, "
                    "or choose another name"
                )
            return Official(directory, new=False)
        download(file._replace(url=os.environ.get(VARIABLE) or file.url), path)
        return Official(
            publish_import(path, "torchvision", name, classes or CLASSES, None, models), new=True
        )
