"""Probabilities that are as large as the share of answers that are right: temperature scaling.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, §4.2: the
logits are divided by one number, the temperature, before the softmax. Here these are the logits of
each view, and views and models are averaged afterwards as ever: so the answer stays the mean of its
views, several models answer by the mean of what each says when it is calibrated, and one view is
exactly as in the paper, where no label changes its rank. By ten views a label may. Dividing the log
of the mean instead would change no rank by ten views either; on Imagenette it left the same error.

A mean of views is less sure than each of them, so one view and ten have a temperature each: that of
ten views made the error of one larger than it was without any.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alexnet.text import Name

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that are looked at, and taken from a published model."""
Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Errors(Frozen):
    """How far probabilities are from what happens, over images that they were not fitted to."""

    ece: float = Field(ge=0, le=1.001)
    """The expected calibration error: how far the probability of the best guess is from the share
    of best guesses that are right, in 15 bins of equal width (Guo et al., §2)."""
    nll: float = Field(ge=0, le=1e6)
    """The mean negative log-likelihood of the right label, in nats."""


class Threshold(Frozen):
    """The least probability of a best guess that is taken for an answer."""

    min_probability: Share
    target: Share
    """The share of answers that were to be right."""
    answered: Count
    """Validation images whose best guess is at least so probable."""
    right: Count
    """Of these, those whose best guess is right."""


class Calibration(Frozen):
    """A temperature, and what it was found by."""

    temperature: float = Field(ge=COLDEST, le=HOTTEST)
    """What the logits of each view are divided by."""
    views: Literal[1, 10]
    """The number of views that it is for."""
    dataset: Name
    """SHA-256 that names the dataset whose validation images it was fitted to."""
    pictures: Count = Field(ge=2)
    """How many these are."""
    before: Errors
    after: Errors
    """Each half of the images judged by the temperature of the other half."""
    threshold: Threshold | None = None
    """What `--target-precision` found, for answers by as many views."""

    @model_validator(mode="after")
    def _counted(self) -> Self:
        found = self.threshold
        if found and not found.right <= found.answered <= self.pictures:
            raise ValueError(
                f"of {self.pictures} images {found.answered} are answered, and {found.right} of "
                "these are right: these counts cannot be"
            )
        return self
