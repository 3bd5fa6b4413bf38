"""What a model said of images, in a file: probabilities that can be evaluated again, together with
those of other models, without the images.

An .npz of NumPy: `files` (N,), what each image is called; `labels` (N,) int64; `classes` and
`names` (K,), the ids and names of the labels; `probabilities_1` and `probabilities_10`, (N, K)
float32, by one view and by ten, of which there may be one alone; `about`, JSON.

Shapes: M models, V numbers of views, N images, K classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch

from alexnet import atomic
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.store.url import Place
from trainer.evaluation.ensemble import check_search, mixtures
from trainer.evaluation.labels import check_classes
from trainer.evaluation.probabilities import Answers, Refused
from trainer.evaluation.results import Frozen, Kind, ModelName, Results, section


class Origin(Frozen):
    """Whose probabilities they are, and of what."""

    model: ModelName
    kind: Kind
    place: Place
    dataset: str | None
    """Digest of the packed dataset."""
    duplicates: int | None
    """How many of the images are also among the dataset's training images."""
    refused: tuple[Refused, ...]
    """The images that could not be used; their probabilities are not a number."""


class Saved(NamedTuple):
    """The content of a file."""

    origin: Origin
    classes: tuple[ClassLabel, ...]
    file_N: np.ndarray
    """str."""
    label_N: np.ndarray
    probability_NK: Mapping[int, np.ndarray]
    """By the number of views."""

    def write(self, path: Path) -> None:
        """Put the file at `path`, whole or not at all. Raises UserError."""
        probabilities = {f"probabilities_{v}": p for v, p in self.probability_NK.items()}
        with atomic.writing(path) as file:
            np.savez(
                file,
                files=self.file_N,
                labels=self.label_N,
                classes=np.array([label.id for label in self.classes]),
                names=np.array([label.name for label in self.classes]),
                about=np.array(self.origin.model_dump_json()),
                **probabilities,  # type: ignore[arg-type]
            )


def read(path: Path) -> Saved:
    """The file that `Saved.write` left at `path`. Raises UserError where it is none."""
    try:
        with path.open("rb") as file:
            if not is_zipfile(file):
                raise ValueError("it is no .npz, or cut off")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                content = dict(arrays)
        saved = Saved(
            Origin.model_validate_json(str(content["about"])),
            tuple(
                ClassLabel(id=str(each), name=str(name))
                for each, name in zip(content["classes"], content["names"], strict=True)
            ),
            content["files"],
            content["labels"],
            {v: content[name] for v in (1, 10) if (name := f"probabilities_{v}") in content},
        )
        images, classes = len(saved.label_N), len(saved.classes)
        for array in saved.probability_NK.values():
            if array.dtype != np.float32 or array.shape != (images, classes):
                raise ValueError(f"probabilities of the shape {array.shape}")
        if not saved.probability_NK or saved.file_N.shape != (images,):
            raise ValueError("not every image has a name and probabilities")
        if not ((saved.label_N >= 0) & (saved.label_N < classes)).all():
            raise ValueError("labels beyond the classes")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: this is no file of `alexnet evaluate --save-probabilities` ({reason}); "
            "write it again"
        ) from None
    return saved


def evaluate_saved(paths: Sequence[Path], views: Sequence[int], search: bool) -> Results:
    """What `evaluate_models` finds of the models whose probabilities are in the files, by those
    `views` that all of them have. Raises UserError where their classes or images differ."""
    saved = [read(path) for path in paths]
    first = saved[0]
    for path, other in zip(paths[1:], saved[1:], strict=True):
        check_classes(paths[0], first.classes, path, other.classes)
        _check_images(paths[0], first, path, other)
    check_search(search, len(saved), len(first.classes))
    common = [view for view in views if all(view in each.probability_NK for each in saved)]
    if not common:
        has = "; ".join(
            f"{path} by {' and '.join(map(str, each.probability_NK))}"
            for path, each in zip(paths, saved, strict=True)
        )
        raise UserError(f"there is no number of views that all files answer by ({has})")
    answers = Answers(
        torch.from_numpy(
            np.stack([[each.probability_NK[view] for view in common] for each in saved])
        ),
        tuple(sorted({refused for each in saved for refused in each.origin.refused})),
    )
    origin, label_N = first.origin, torch.from_numpy(first.label_N)
    models = tuple(each.origin.model for each in saved)
    return Results(
        models=models,
        views=tuple(common),
        dataset=origin.dataset,
        duplicates=origin.duplicates,
        sections=(
            section(
                origin.kind,
                origin.place,
                answers,
                label_N,
                mixtures=mixtures(
                    [model.title for model in models],
                    answers.probability_MVNK[:, -1],
                    label_N,
                    search,
                ),
                views=common,
                classes=first.classes,
            ),
        ),
    )


def _check_images(path: Path, first: Saved, other_path: Path, other: Saved) -> None:
    both = f"{path} and {other_path} are about different images"
    remedy = "both models must have been evaluated on the same"
    if len(first.file_N) != len(other.file_N):
        raise UserError(f"{both}: {len(first.file_N):,} and {len(other.file_N):,}; {remedy}")
    for what, ours_N, theirs_N in (
        ("called", first.file_N, other.file_N),
        ("of class", _class_ids(first), _class_ids(other)),
    ):
        if (odd_N := np.flatnonzero(ours_N != theirs_N)).size:
            image = odd_N[0]
            raise UserError(
                f"{both}: image {image} is {what} {ours_N[image]} in the first, {theirs_N[image]} "
                f"in the second; {remedy}"
            )


def _class_ids(saved: Saved) -> np.ndarray:
    """The id of each image's class, (N,) str."""
    return np.array([label.id for label in saved.classes])[saved.label_N]
