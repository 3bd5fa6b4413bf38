"""What goes over the wire."""

from typing import Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from alexnet.checkpoint import About


class Guess(BaseModel):
    id: str
    """Class folder; a WordNet id in ImageNet."""
    label: str
    probability: float


class ModelName(BaseModel):
    """Which checkpoint answered."""

    name: str
    step: int
    sha256: str

    @classmethod
    def of(cls, about: About) -> Self:
        return cls(name=about.name, step=about.step, sha256=about.weights_sha256)


class Classification(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "guesses": [
                        {"id": "n02102040", "label": "English springer", "probability": 0.9713},
                        {"id": "n01440764", "label": "tench, Tinca tinca", "probability": 0.0121},
                        {"id": "n03394916", "label": "French horn, horn", "probability": 0.0068},
                        {"id": "n03888257", "label": "parachute, chute", "probability": 0.0041},
                        {"id": "n03445777", "label": "golf ball", "probability": 0.0027},
                    ],
                    "views": 10,
                    "model": {"name": "dogs", "step": 888, "sha256": "5f1c0b8e…"},
                }
            ]
        }
    )

    guesses: list[Guess]
    """The five most probable, or as many as there are classes, best first."""
    views: int
    """Crops and mirrors of the picture whose probabilities were averaged."""
    model: ModelName

    @classmethod
    def of(cls, probability_K: Tensor, views: int, about: About) -> Self:
        best = probability_K.topk(min(5, len(probability_K)))
        return cls(
            guesses=[
                Guess(
                    id=about.classes[label].id,
                    label=about.classes[label].name,
                    probability=probability,
                )
                for probability, label in zip(
                    best.values.tolist(), best.indices.tolist(), strict=True
                )
            ],
            views=views,
            model=ModelName.of(about),
        )


class Ready(BaseModel):
    status: str = "ready"
    model: ModelName


class Alive(BaseModel):
    status: str = "alive"


class Problem(BaseModel):
    """Every error, as RFC 9457 has it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unsupported Media Type",
                    "status": 415,
                    "detail": "not a picture in one of JPEG, PNG, WEBP",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
