"""An evaluation as text, in the shape of the paper's Table 2: a row a model, errors in percent."""

from collections.abc import Iterable, Iterator

from alexnet.calibration import COLDEST, HOTTEST, Errors, Threshold
from trainer.evaluation.calibration import Fit
from trainer.evaluation.results import Results, Section
from trainer.evaluation.scores import Score

WORST = 5
"""Classes, and pairs of them, shown below the table."""

ENOUGH = 100
"""Answers: the share of them that is right has a standard error of three points at 90 %."""
HALVES = ("even images", "odd images"), ("odd images", "even images")
"""Of a calibration: which it was fitted to, and which it is judged by."""


def table(results: Results) -> str:
    """Errors of each model and of all together, then what the last row of the first section gets
    wrong most often, from the most views."""
    lines = [line for fit in results.calibrations for line in (*_fit(fit), "")]
    lines += [line for section in results.sections for line in (*_section(section), "")]
    if results.duplicates:
        lines += [f"{results.duplicates:,} of the validation images are also training images", ""]
    row = results.sections[0].rows[-1]
    return "\n".join([*lines, *_worst(row.name, row.scores[-1])])


def _section(section: Section) -> Iterator[str]:
    kind = "packed images" if section.kind == "packed" else "photographs, decoded as served,"
    yield f"{section.pictures:,} {kind} in {section.place}"
    scores, width = section.rows[0].scores, max(len(row.name) for row in section.rows)
    yield _line("", width, (f"{_views(score):^36}" for score in scores))
    yield _line("Model", width, ["    Top-1 error       Top-5 error   "] * len(scores))
    for row in section.rows:
        yield _line(row.name, width, map(_errors, row.scores))
    yield _line("", width, ["Calibration error  Log-likelihood   "] * len(scores))
    for row in section.rows:
        yield _line(row.name, width, [f"{s.ece:17.2%}{-s.nll:16.4f}   " for s in row.scores])
    for row in section.rows:
        means = ", ".join(f"{1 - (s.macro_top1 or 0):.2%} ({_views(s)})" for s in row.scores)
        yield f"{row.name}: top-1 error as the mean of the classes: {means}"
        if row.searched:
            weights = ", ".join(f"{weight:g}" for weight in row.weights)
            yield f"weights: {weights}, chosen on these very images: expect more errors on new ones"
        if row.differ:
            pairs = zip(row.differ, row.scores, strict=True)
            counts = ", ".join(f"{differ:,} ({_views(score)})" for differ, score in pairs)
            yield f"{row.name}: best guesses that differ from those for the packed images: {counts}"
    for refused in section.refused:
        yield f"not counted: {refused.file}: {refused.reason}"


def _fit(fit: Fit) -> Iterator[str]:
    """The temperature that is kept, and how those of each half of the images do on the other."""
    kept = fit.kept
    views = "1 view" if kept.views == 1 else f"{kept.views} views"
    yield (
        f"{fit.name}: calibrated by {views} of {kept.pictures:,} validation images; the "
        f"temperature is {kept.temperature:.3f}"
    )
    if kept.temperature < 1.2 * COLDEST or kept.temperature > HOTTEST / 1.2:
        yield "that is the limit: among these images too few are wrong, or right, to fit it to"
    yield "Fitted to     Judged by    Temperature  Calibration error    Log-likelihood"
    for half, (fitted, judge) in zip(fit.halves, HALVES, strict=True):
        yield f"{fitted:<14}{judge:<13}{half.temperature:>11.3f}  " + _change(
            half.before, half.after
        )
    yield f"{'both, each judged by the other':<40}" + _change(kept.before, kept.after)
    if kept.after.nll >= kept.before.nll:
        yield (
            f"warning: on images that it was not fitted to, the temperature does not help; "
            f"{kept.pictures:,} are too few to fit one, or none is needed"
        )
    if (found := kept.threshold) is not None:
        yield (
            f"answers of at least {found.min_probability:.1%}: {_answered(found, kept.pictures)}, "
            f"where {found.target:.1%} were asked for"
        )
        if found.answered < ENOUGH:
            yield (
                f"warning: {found.answered:,} answered images say little about others; hold out "
                f"more images, so that {ENOUGH} or more are answered"
            )
        for half, (fitted, judge) in zip(fit.halves, HALVES, strict=True):
            if half.threshold:
                at_least = f"{half.threshold.min_probability:.1%}"
                counts = _answered(half.threshold, half.pictures)
                yield f"found on {fitted}, at least {at_least}; on {judge}: {counts}"
    elif fit.target:
        yield f"no probability makes {fit.target:.1%} of the answers right, so none is kept"


def _change(before: Errors, after: Errors) -> str:
    return f"{before.ece:7.2%} -> {after.ece:6.2%}  {-before.nll:8.4f} -> {-after.nll:7.4f}"


def _answered(found: Threshold, pictures: int) -> str:
    right = f"{found.right / found.answered:.2%} of them are right" if found.answered else "none"
    return f"{found.answered / pictures:.1%} of the images are answered, {right}"


def _line(name: str, width: int, columns: Iterable[str]) -> str:
    return f"{name:<{width}}  {''.join(columns)}".rstrip()


def _errors(score: Score) -> str:
    """Percent and count of what is wrong, top-1 and top-5."""
    wrong = ((score.top1_error, score.top1), (score.top5_error, score.top5))
    return "".join(f"{error:7.2%}{score.pictures - right:>8,}   " for error, right in wrong)


def _views(score: Score) -> str:
    return "1 view" if score.views == 1 else f"{score.views} views"


def _worst(name: str, score: Score) -> Iterator[str]:
    yield f"{name}, {_views(score)}: the classes with the highest top-1 error"
    asked = [c for c in score.classes if c.pictures]
    for c in sorted(asked, key=lambda c: c.top1 / c.pictures)[:WORST]:
        wrong = c.pictures - c.top1
        yield f"{wrong / c.pictures:7.2%}{wrong:>8,} of {c.pictures:<7,} {c.name}"
    yield "and the most frequent confusions"
    names = {c.id: c.name for c in score.classes}
    for pair in score.confusions[:WORST]:
        yield f"{pair.pictures:>7,}  {names[pair.label]} classified as {names[pair.guess]}"
