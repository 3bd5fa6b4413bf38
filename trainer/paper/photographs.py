"""The dataset that the experiments with AlexNet itself train on."""

from pathlib import Path

from alexnet.store.url import Place, StoreURL
from pipeline.dataset import Dataset
from pipeline.pack import pack
from pipeline.sources import open_source
from pipeline.sources.source import MAX_QUARANTINED, VAL_FRACTION
from trainer.run import RunError


def packed(data: Place, work: Path, size: int) -> Dataset:
    """A packed dataset as it is; anything else that `alexnet pack` takes is packed below `work`
    first, unless that has been done. Within a `cluster`. Raises UserError."""
    if isinstance(data, StoreURL) or (data / "manifest.json").exists():
        dataset = Dataset(data)
        if dataset.manifest.size != size:
            raise RunError(
                f"{data}: the images have {dataset.manifest.size} x {dataset.manifest.size} "
                f"pixels, but the experiments train on {size} x {size}; pack them with "
                f"--size {size}, or name the photographs"
            )
        return dataset
    directory = work / f"{data.name}-{size}"
    if not (directory / "manifest.json").exists():
        pack(open_source(str(data), VAL_FRACTION, None), directory, size, MAX_QUARANTINED)
    return Dataset(directory)
