"""What goes over the wire."""

from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from alexnet.checkpoint import About, Accuracy
from alexnet.classes import ClassLabel
from alexnet.guess import Guess
from alexnet.model import AlexNetConfig


class ModelName(BaseModel):
    """Which checkpoint answered; of an ensemble, which together."""

    name: str
    step: int
    sha256: str

    @classmethod
    def of(cls, *members: About) -> Self:
        digest = "".join(about.weights_sha256 for about in members)
        return cls(
            name="+".join(about.name for about in members),
            step=max(about.step for about in members),
            sha256=digest if len(members) == 1 else sha256(digest.encode()).hexdigest(),
        )


class Vote(BaseModel):
    """What one view says, and which part of the square picture it is; fractions of its side."""

    left: float
    top: float
    side: float
    mirrored: bool
    guesses: list[Guess]


class Problem(BaseModel):
    """Every error, as RFC 9457 has it, and what it takes to put it right."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Content Too Large",
                    "status": 413,
                    "code": "too-large",
                    "detail": "the picture has 81000000 pixels, the limit is 50000000",
                    "request_id": "0f3a9c1e5b7d4f60",
                    "limit": 50000000,
                    "seen": 81000000,
                    "setting": "SERVING_MAX_PIXELS",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """The kind of error, for programs."""
    detail: str
    request_id: str = ""
    limit: float | None = None
    seen: float | None = None
    setting: str | None = None
    """Which setting of the server moves the limit."""


class Result(BaseModel):
    """Of one picture: guesses, or why there are none."""

    index: int
    """Place of the picture in the request, from 0."""
    guesses: list[Guess] | None = None
    """The most probable, best first; as many as asked for, or as there are classes."""
    votes: list[Vote] | None = None
    """Of each view, with detail=views."""
    problem: Problem | None = None


class Classification(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "index": 0,
                            "guesses": [
                                {
                                    "id": "n02102040",
                                    "label": "English springer",
                                    "probability": 0.9713,
                                },
                                {
                                    "id": "n01440764",
                                    "label": "tench, Tinca tinca",
                                    "probability": 0.0121,
                                },
                            ],
                        }
                    ],
                    "views": 10,
                    "model": {"name": "dogs", "step": 888, "sha256": "5f1c0b8e…"},
                }
            ]
        }
    )

    results: list[Result]
    """One for each picture, in the order sent."""
    views: int
    """Crops and mirrors of the picture whose probabilities were averaged."""
    model: ModelName


class Score(BaseModel):
    """A guess as Hugging Face's image-classification task has it."""

    label: str
    score: float


class Base64Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(None, ge=1, le=100)
    function_to_apply: Literal["softmax"] | None = None


class Base64Picture(BaseModel):
    """A picture as Hugging Face's image-classification task sends it."""

    model_config = ConfigDict(extra="forbid")

    inputs: str
    """Base64."""
    parameters: Base64Parameters = Base64Parameters()


class Neighbour(BaseModel):
    """A training picture."""

    id: str
    label: str
    distance: float
    """Euclidean, in the last hidden layer."""
    thumbnail: str
    """Path of a small JPEG on this server."""


class IndexName(BaseModel):
    pictures: int
    dataset: str
    """SHA-256 of the packed dataset."""


class Similar(BaseModel):
    neighbours: list[Neighbour]
    """Nearest first."""
    index: IndexName
    model: ModelName


class Input(BaseModel):
    """How a photograph becomes what the network sees."""

    size: int
    """Rows and columns of the square picture that the views are cut from."""
    crop: int
    """Rows and columns of a view."""
    framing: str
    """crop, pixel-crop: the photograph's centre square. squash: all of it, whatever its ratio."""


class Reload(BaseModel):
    loaded_at: datetime
    failed: str | None
    """Why the newest published model is not the one that answers."""


class Card(BaseModel):
    """What is known of the model, and what the server allows."""

    model: ModelName
    models: list[ModelName]
    """Its members; one, unless it is an ensemble."""
    classes: list[ClassLabel]
    dataset: str | None
    """SHA-256 that names the training data."""
    accuracy: list[Accuracy]
    """Exact counts over the validation pictures, of a single model."""
    network: AlexNetConfig
    recipe: dict[str, Any]
    trained_at: datetime | None
    versions: dict[str, str]
    picture: Input
    device: str
    similar: IndexName | None
    keys: bool
    """Whether answers need an API key."""
    limits: dict[str, Any]
    reload: Reload


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    model: ModelName


class Alive(BaseModel):
    status: Literal["alive"] = "alive"
