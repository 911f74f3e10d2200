"""What theory says of one lane under one fault: best, expected and worst, and from what."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """How long a lane is without a success, in seconds, and from what.

    least, most : the best and the worst moment for a client to ask and a fault to come.
    expected : the mean over all moments, which are equally likely. A mean of sums is the sum of
        the means; infinite, where one of the cases does not end by itself.
    """

    least: float
    expected: float
    most: float
    formula: str

    @property
    def known(self) -> bool:
        """Tell whether there is a theory at all."""
        return not math.isnan(self.most)

    @property
    def bounded(self) -> bool:
        """Tell whether it ends at a time that can be said, and drawn."""
        return math.isfinite(self.most)

    def __str__(self) -> str:
        if not self.known:
            return "no theory"
        if self.most == 0:
            return "none"
        if not self.bounded:
            return f"{self.least:.1f} s, or until it is undone" if self.least else \
                "until it is undone"
        return f"{self.least:.1f} to {self.most:.1f} s, expected {self.expected:.1f} s"


NONE = Prediction(0.0, 0.0, 0.0, "no failed request")
NO_THEORY = Prediction(math.nan, math.nan, math.nan, "no theory: measure it")


def anywhere(least: float, most: float, formula: str) -> Prediction:
    """Return what lies anywhere between two ends, each moment as likely as the others.

    So it is for a timer of a fixed interval, since no fault waits for it: what is struck at a
    uniformly random phase of an interval T waits T/2 on average. (The residual life of a renewal
    process with equal intervals: Ross, "Introduction to Probability Models", chapter 7)
    """
    return Prediction(least, (least + most) / 2, most, formula)


def by_chance(p: Prediction, chance: float) -> Prediction:
    """Return the same at the most, and nothing where the Pi that is struck had no part in it.

    chance : how likely it is that it had; the mean is smaller by as much.
    """
    return Prediction(0.0, chance * p.expected, p.most, p.formula + ", if that Pi had the role")


def lasts(why: str) -> Prediction:
    """Return that nothing can be done about it but to undo it: a write is refused, or waits."""
    return Prediction(0.0, math.inf, math.inf, f"{why}: refused until it is undone")
