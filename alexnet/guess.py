"""An answer about an image."""

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from alexnet.classes import ClassLabel


class Guess(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    id: str
    """The class folder's name; in ImageNet, a WordNet id."""
    label: str
    """The name of the class for people."""
    probability: float
    """What the network gives for the class, from 0 to 1."""

    def __str__(self) -> str:
        return f"{self.probability:7.2%}  {self.label}"


def none_of_these(probability: float, min_probability: float | None) -> bool | None:
    """Whether a best guess of `probability` is too improbable to be an answer; None where there is
    no least probability. Both are Python's floats: an array would round the latter to float32."""
    return None if min_probability is None else probability < min_probability


def guesses(probability_K: Tensor, classes: tuple[ClassLabel, ...], top_k: int) -> list[Guess]:
    """The `top_k` most probable, or as many as there are, best first."""
    best = probability_K.topk(min(top_k, len(probability_K)))
    return [
        Guess(id=classes[label].id, label=classes[label].name, probability=probability)
        for probability, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
