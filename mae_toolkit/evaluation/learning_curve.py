"""What the curve of a metric says: how far it rose, where it was best, and whether it was still rising."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FEWEST = 4  # values that tell a trend
NOTICEABLE = 0.02  # of the best value: less is noise of small sets


@dataclass(frozen=True)
class LearningCurve:
    """Values of a metric over training, of which higher is better.

    Attributes:
        values: Value by step, ascending.
    """

    values: Mapping[int, float]

    @property
    def best_step(self) -> int:
        """Return the step of the best value, the last one of several, whose checkpoint is kept."""
        return max(self.values, key=lambda step: (self.values[step], step))

    @property
    def best(self) -> float:
        """Return the best value."""
        return self.values[self.best_step]

    def is_rising(self) -> bool:
        """Return whether the last third of the validations brought a noticeable gain."""
        steps = list(self.values)
        before = max(self.values[step] for step in steps[: -max(1, len(steps) // 3)])
        return max(self.values[step] for step in steps) - before > NOTICEABLE * abs(self.best)

    def is_falling(self) -> bool:
        """Return whether the end is noticeably worse than the best."""
        return self.best - list(self.values.values())[-1] > NOTICEABLE * abs(self.best)


def describe_curve(curve: LearningCurve, name: str) -> list[str]:
    """Describe in sentences what a curve says, and what to try.

    Args:
        curve: The curve.
        name: Name of the metric.
    """
    steps = list(curve.values)
    first, last = curve.values[steps[0]], curve.values[steps[-1]]
    lines = [
        f'{name}: {first:.4g} at step {steps[0]}, {curve.best:.4g} at its best (step {curve.best_step}), {last:.4g} at '
        f'the end (step {steps[-1]}).'
    ]
    if len(steps) < FEWEST:
        lines.append(f'Too few validations to tell whether it was still rising: {len(steps)}.')
    elif curve.is_rising():
        lines.append('The curve was still rising in the last third: train longer (--steps, --epochs or --minutes).')
    elif curve.is_falling():
        lines.append(
            f'It got worse after step {curve.best_step}: more images, or weights that were pretrained on more, help '
            'most; --patience 3 ends such a training earlier.'
        )
    else:
        lines.append('The curve is flat by the end: longer training would hardly help; more labels may.')
    return lines
