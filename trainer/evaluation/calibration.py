"""alexnet evaluate --calibrate: a model's temperature, and the least probability of an answer.

What is fitted is what the product answers: the mean over the views of the softmax of their logits
(see `alexnet.calibration`). Images are judged by what was fitted to others: those of even index by
what fits those of odd index, and the other way round. What is kept is fitted to all.

Shapes: V views, N images, K classes.
"""

from math import exp, log
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize_scalar
from torch import Tensor

from alexnet.calibration import COLDEST, HOTTEST, Calibration, Errors, Threshold
from alexnet.views import CENTRE
from trainer.evaluation.scores import calibration_error, likelihood_loss

ROWS = 2048
"""Images at once, to save memory."""
STEPS = 1000
"""Thresholds are looked for in thousandths."""


class Judged(BaseModel):
    """What was fitted to some images, and how it does on others."""

    model_config = ConfigDict(frozen=True)

    temperature: float
    pictures: int
    """How many the others are."""
    before: Errors
    after: Errors
    threshold: Threshold | None
    """Found on the images that were fitted to; counted on the others."""


class Fit(BaseModel):
    """How a model was calibrated."""

    model_config = ConfigDict(frozen=True)

    name: str
    halves: tuple[Judged, Judged]
    """Judged by the images of odd index, and by those of even index."""
    kept: Calibration
    """What is published with the model."""
    target: float | None
    """The precision for which a threshold was to be found."""


class Asked(NamedTuple):
    """Images, and what a model says of each view of them."""

    logit_VNK: Tensor
    label_N: Tensor

    def by(self, views: int) -> "Asked":
        """One view alone, or as they are."""
        alone = views == 1 < len(self.logit_VNK)
        return Asked(self.logit_VNK[CENTRE, None], self.label_N) if alone else self

    def part(self, start: int) -> "Asked":
        """Every second image."""
        return Asked(self.logit_VNK[:, start::2], self.label_N[start::2])


def calibrate(name: str, asked: Asked, dataset: str, target: float | None) -> Fit:
    """Fit a model's temperature, and where there is a `target` precision its threshold. N is at
    least 2."""
    even, odd = asked.part(0), asked.part(1)
    halves, judged = [], []
    for fitted, judge in ((even, odd), (odd, even)):
        temperature = fit_temperature(fitted)
        before_NK, after_NK = answers(judge, 1.0), answers(judge, temperature)
        found = target and find_threshold(answers(fitted, temperature), fitted.label_N, target)
        halves.append(
            Judged(
                temperature=temperature,
                pictures=len(judge.label_N),
                before=_errors(before_NK, judge.label_N),
                after=_errors(after_NK, judge.label_N),
                threshold=_counted(found.min_probability, found.target, after_NK, judge.label_N)
                if found
                else None,
            )
        )
        judged.append((before_NK, after_NK, judge.label_N))
    before_NK, after_NK, label_N = map(torch.cat, zip(*judged, strict=True))
    temperature = fit_temperature(asked)
    return Fit(
        name=name,
        halves=(halves[0], halves[1]),
        target=target,
        kept=Calibration(
            temperature=temperature,
            views=10 if len(asked.logit_VNK) == 10 else 1,
            dataset=dataset,
            pictures=len(label_N),
            before=_errors(before_NK, label_N),
            after=_errors(after_NK, label_N),
            threshold=find_threshold(answers(asked, temperature), asked.label_N, target)
            if target
            else None,
        ),
    )


def fit_temperature(asked: Asked) -> float:
    """The temperature by which the answers about these images have the least negative
    log-likelihood, from COLDEST to HOTTEST."""

    def loss(log_temperature: float) -> float:
        total = 0.0
        for logit_VMK, label_M in zip(
            asked.logit_VNK.split(ROWS, dim=1), asked.label_N.split(ROWS), strict=True
        ):
            log_VMK = (logit_VMK / exp(log_temperature)).log_softmax(dim=2)
            right_VM = log_VMK[:, torch.arange(len(label_M)), label_M]
            total -= right_VM.double().logsumexp(dim=0).sum().item()
        return total / len(asked.label_N)  # less the log of V, which changes no minimum

    bounds = log(COLDEST), log(HOTTEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return min(max(exp(found.x), COLDEST), HOTTEST)


def answers(asked: Asked, temperature: float) -> Tensor:
    """Probabilities at a temperature, (N, K): the mean of the views'."""
    parts = asked.logit_VNK.split(ROWS, dim=1)
    return torch.cat([(part / temperature).softmax(dim=2).mean(dim=0) for part in parts])


def find_threshold(probability_NK: Tensor, label_N: Tensor, target: float) -> Threshold | None:
    """The lowest threshold, in thousandths, at which a share of at least `target` of the answers
    is right; None where there is none at which anything is answered."""
    best_N, guess_N = probability_NK.max(dim=1)
    # How many thousandths each best guess reaches, and what those that reach as many add up to.
    edge_T = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    step_N = torch.bucketize(best_N.double(), edge_T, right=True) - 1
    counts = torch.bincount(step_N, minlength=STEPS + 1)
    rights = torch.bincount(step_N[guess_N == label_N], minlength=STEPS + 1)
    answered, right = (each.flip(0).cumsum(0).flip(0) for each in (counts, rights))
    enough = ((answered > 0) & (right >= target * answered)).nonzero()
    if not len(enough):
        return None
    return _counted(int(enough[0]) / STEPS, target, probability_NK, label_N)


def _counted(
    min_probability: float, target: float, probability_NK: Tensor, label_N: Tensor
) -> Threshold:
    best_N, guess_N = probability_NK.max(dim=1)
    given_N = best_N.double() >= min_probability
    return Threshold(
        min_probability=min_probability,
        target=target,
        answered=int(given_N.sum()),
        right=int((given_N & (guess_N == label_N)).sum()),
    )


def _errors(probability_NK: Tensor, label_N: Tensor) -> Errors:
    return Errors(
        ece=calibration_error(probability_NK, label_N), nll=likelihood_loss(probability_NK, label_N)
    )
