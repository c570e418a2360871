"""Schedules of alpha: how much of the source each step of the sampling gets.

Pure functions of the progress p, which goes from 0 at the first step to 1: over steps it is step / (N - 1), over sigma
it is 1 - sigma, so that p 0.3 is where sigma, the time of flow matching, has fallen to 0.7.
"""

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from graftwork.core.labels import format_value, format_values
from graftwork.core.parameters import Share, Strict


class AlphaSchedule(Strict):
    """A schedule, as an experiment may say it."""

    kind: Literal["constant", "linear", "cosine", "step", "peak_early", "points"] = Field(
        "constant", description="Form of the schedule."
    )
    over: Literal["step", "sigma"] = Field(
        "step", description="What p follows: the number of the step, or 1 - sigma."
    )
    maximum: Share = Field(1.0, description="Alpha at p = 0; that of all steps for `constant`.")
    minimum: Share = Field(0.0, description="Alpha at p = 1, or after the break.")
    break_at: Share = Field(0.5, description="p from which on `step` has the minimum.")
    points: (
        Annotated[list[Annotated[list[Share], Field(min_length=2, max_length=2)]], Field(min_length=1)] | None
    ) = Field(
        None, description="For `points`: pairs [p, alpha], p rising; linear in between, constant outside."
    )

    @model_validator(mode="after")
    def _points_belong_to_points(self) -> "AlphaSchedule":
        if (self.points is not None) != (self.kind == "points"):
            raise PydanticCustomError("points", "points with kind: points, and with no other kind")
        places = [place for place, _ in self.points or []]
        if any(one >= other for one, other in itertools.pairwise(places)):
            raise PydanticCustomError("points", "points in rising order of p, each p once")
        return self


def alpha_at(schedule: AlphaSchedule, p: float) -> float:
    """Returns alpha at a progress.

    constant: max. linear: max (1 - p) + min p. cosine: min + (max - min) (1 + cos(pi p)) / 2 (Nichol and Dhariwal
    2021). step: max before the break, min from it on. peak_early: max exp(-3 p). points: linear between the points.

    Args:
        schedule: the schedule to follow.
        p: From 0 to 1.
    """
    high, low = schedule.maximum, schedule.minimum
    if schedule.kind == "linear":
        return high * (1.0 - p) + low * p
    if schedule.kind == "cosine":
        return low + (high - low) * (1.0 + math.cos(math.pi * p)) / 2.0
    if schedule.kind == "step":
        return high if p < schedule.break_at else low
    if schedule.kind == "peak_early":
        return high * math.exp(-3.0 * p)
    if schedule.kind == "points":
        return _between(schedule.points or [], p)
    return high


def _between(points: Sequence[Sequence[float]], p: float) -> float:
    after = bisect_right([place for place, _ in points], p)
    if after in (0, len(points)):
        return points[min(after, len(points) - 1)][1]
    (start, first), (end, last) = points[after - 1], points[after]
    share = (p - start) / (end - start)
    return first * (1.0 - share) + last * share


def alphas_of_steps(
    schedule: AlphaSchedule, steps: int, sigmas: Sequence[float] | None = None
) -> list[float]:
    """Returns alpha for each step, rounded to 12 digits so that equal numbers have equal names.

    Args:
        schedule: the schedule to follow.
        steps: How many steps there are; a single one has p = 0.
        sigmas: Sigmas of the scheduler, one for each step (a last 0 is ignored), from 0 to 1; for `over: sigma`.

    Raises:
        ValueError: for no steps, and for sigmas that are missing, too few or not from 0 to 1.
    """
    if steps < 1:
        raise ValueError(f"a schedule over {steps} steps has no values; at least 1 is needed")
    if schedule.over == "step":
        progress = [step / (steps - 1) if steps > 1 else 0.0 for step in range(steps)]
    else:
        if sigmas is None or not steps <= len(sigmas) <= steps + 1:
            found = "none" if sigmas is None else len(sigmas)
            raise ValueError(
                f"a schedule over sigma needs one sigma for each of {steps} steps; there are {found}"
            )
        progress = [1.0 - float(sigma) for sigma in sigmas[:steps]]
        if not all(0.0 <= p <= 1.0 for p in progress):
            raise ValueError(f"sigmas must be from 0 to 1 for a schedule; they are {list(sigmas)}")
    return [round(alpha_at(schedule, p), 12) + 0.0 for p in progress]


def scheduled_alphas(alpha: float, shares: Sequence[float]) -> list[float]:
    """Returns the alpha of each step: alpha times the schedule's share, rounded to 12 digits as that is.

    Args:
        alpha: Alpha of the cell; it stays as it is where the share is 1.
        shares: As `alphas_of_steps` returns them.
    """
    return [alpha if share == 1.0 else round(alpha * share, 12) + 0.0 for share in shares]


def format_schedules(values: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Shows the values of an axis of alpha schedules, each by what its kind uses.

    Args:
        values: Schedules as `AlphaSchedule` has them, as plain values, or None.

    Returns:
        Texts such as "linear 1 to 0" or "step 1 to 0 at 0.5, over sigma". Schedules that differ in what their kind does not
        use are written whole.
    """
    texts = [_format_schedule(value) for value in values]
    return texts if len(set(texts)) == len(texts) else format_values(values)


def _format_schedule(schedule: Mapping[str, Any] | None) -> str:
    if schedule is None:
        return "none"
    high, low = format_value(schedule["maximum"]), format_value(schedule["minimum"])
    details = {
        "constant": high,
        "linear": f"{high} to {low}",
        "cosine": f"{high} to {low}",
        "step": f"{high} to {low} at {format_value(schedule['break_at'])}",
        "peak_early": high,
        "points": format_value(schedule.get("points")),
    }
    over = ", over sigma" if schedule["over"] == "sigma" else ""
    return f"{schedule['kind']} {details[schedule['kind']]}{over}"
