"""The JSON that the server takes and gives, with the descriptions that its documentation shows."""

from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from alexnet.calibration import Calibration
from alexnet.checkpoint import About, Accuracy
from alexnet.classes import ClassLabel
from alexnet.config import AlexNetConfig
from alexnet.guess import Guess

EXAMPLE_PROBLEM: dict[str, Any] = {
    "type": "about:blank", "title": "Content Too Large", "status": 413, "code": "too-large",
    "detail": "the image has 81,000,000 pixels; the limit is 67,108,864",
    "request_id": "0f3a9c1e5b7d4f60",
    "limit": 67108864, "seen": 81000000, "setting": "SERVING_MAX_PIXELS",
}  # fmt: skip
EXAMPLE_GUESSES: list[Any] = [
    {"id": "n02102040", "label": "English springer", "probability": 0.9713},
    {"id": "n01440764", "label": "tench, Tinca tinca", "probability": 0.0121},
]
EXAMPLE_CLASSIFICATION: dict[str, Any] = {
    "results": [{"index": 0, "guesses": EXAMPLE_GUESSES}],
    "views": 10,
    "model": {"name": "dogs", "step": 888, "sha256": "5f1c0b8e…"},
}


class Described(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)  # into the OpenAPI document


class ModelName(Described):
    """The published model that answered; of an ensemble, all its members together."""

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


class Vote(Described):
    """The guesses of one view, and its place as fractions of the square image's side."""

    left: float
    top: float
    side: float
    mirrored: bool
    guesses: list[Guess]


class Problem(Described):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_PROBLEM]})

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """The kind of error, for programs."""
    detail: str
    """What is wrong and what to do about it, for people."""
    request_id: str = ""
    """Names the request in the server's log; also the header X-Request-Id."""
    limit: float | None = None
    """The limit that the request exceeds."""
    seen: float | None = None
    """What the request has instead."""
    setting: str | None = None
    """The server's environment variable that sets the limit."""


class Result(Described):
    """The answer about one image: its guesses, or the problem with it."""

    index: int
    """Place of the image in the request, from 0."""
    guesses: list[Guess] | None = None
    """The most probable labels, best first: `top_k` of them, or all classes if there are fewer."""
    none_of_these: bool | None = None
    """Whether the best guess is less probable than `min_probability`: then the image may well show
    none of the model's classes. The guesses are listed all the same."""
    votes: list[Vote] | None = None
    """The guesses of each view, where the request has `detail=views`."""
    problem: Problem | None = None


class Classification(Described):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_CLASSIFICATION]})

    results: list[Result]
    """One for each image, in the order of the request."""
    views: int
    """How many views (crops of each image) were averaged."""
    min_probability: float | None = None
    """The least probability of an answer: that of the request, or else the one that was published
    with the model for so many views. Absent where there is neither."""
    model: ModelName


class Score(Described):
    """A guess, as Hugging Face's image-classification task defines it."""

    label: str
    score: float


class Base64Parameters(Described):
    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(None, ge=1, le=100)
    function_to_apply: Literal["softmax"] | None = None


class Base64Image(Described):
    """A request, as Hugging Face's image-classification task defines it."""

    model_config = ConfigDict(extra="forbid")

    inputs: bytes
    """The image file in base64, or a data: URL of it."""
    parameters: Base64Parameters = Base64Parameters()
    options: Any = None
    """What some clients ask of Hugging Face's own servers; it changes nothing here."""


class Neighbour(Described):
    """A training image that is similar to the image of the request."""

    id: str
    label: str
    distance: float
    """Euclidean distance between the two in the network's last hidden layer."""
    thumbnail: str
    """Path of the image as a small JPEG on this server."""


class IndexName(Described):
    pictures: int
    """How many training images the index holds."""
    dataset: str
    """SHA-256 that names the packed dataset they come from."""


class Similar(Described):
    neighbours: list[Neighbour]
    """The most similar first."""
    index: IndexName
    model: ModelName


class Input(Described):
    """How a photograph becomes the network's input."""

    size: int
    """Rows and columns of the square image that the views are cut from."""
    crop: int
    """Rows and columns of a view."""
    framing: str
    """`crop` and `pixel-crop` take the photograph's centre square; `squash` fits all of it into
    the square, whatever its proportions."""


class Reload(Described):
    loaded_at: datetime
    """When the model that answers was loaded."""
    failed: str | None
    """Why the newest published model could not be loaded; null where it was."""
    away: str | None
    """Why the object store that the model comes from cannot be asked for newer ones, so that a copy
    answers; null where it can, and for a model on disk."""
    asked_at: datetime | None
    """When that store last answered; null where it has not, and for a model on disk."""


class Card(Described):
    """What is known about the model, and the server's limits."""

    model: ModelName
    models: list[ModelName]
    """The members of an ensemble; otherwise the model alone."""
    classes: list[ClassLabel]
    dataset: str | None
    """SHA-256 that names the training data; null for imported weights."""
    accuracy: list[Accuracy]
    """Counts over the validation images; empty for an ensemble."""
    calibrated: list[int]
    """The numbers of views by which probabilities are calibrated: about as large as the share of
    answers that are right."""
    calibrations: list[Calibration]
    """What they are calibrated by, how well, and the least probability of an answer that a request
    gets by default, for each number of views; empty for an ensemble."""
    network: AlexNetConfig
    recipe: dict[str, Any]
    trained_at: datetime | None
    versions: dict[str, str]
    picture: Input
    device: str
    """Where the model answers: `cpu`, or a GPU, as in `cuda: NVIDIA H100 80GB HBM3`."""
    similar: IndexName | None
    keys: bool
    """Whether requests need an API key."""
    limits: dict[str, Any]
    reload: Reload


class Ready(Described):
    status: Literal["ready"] = "ready"
    model: ModelName


class Alive(Described):
    status: Literal["alive"] = "alive"
