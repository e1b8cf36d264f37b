"""What a pretraining takes besides its steps: what its hooks and its verdict do, in seconds."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mae_toolkit.engine.hooks import BatchNormStatisticsHook, ReconstructionHook, WatchHook
from mae_toolkit.engine.hooks.watch import FEWEST, FEWEST_IMAGES
from mae_toolkit.engine.minutes import FEWEST_STEPS, TimedLength
from mae_toolkit.evaluation.reconstruction import MOST_JUDGED
from mae_toolkit.registry import SCOPE


@dataclass(frozen=True)
class Costs:
    """What the parts of a training take, in seconds.

    Attributes:
        step: A step, with its data.
        validation: A validation, with the picture and the checkpoint that come with it.
        fixed: What begins and ends the training.
    """

    step: float
    validation: float
    fixed: float

    @property
    def least(self) -> float:
        """Return the seconds of the shortest training."""
        return self.fixed + self.validation + FEWEST_STEPS * self.step


def estimate_costs(cfg: Config, timed: TimedLength, held_out: int, trained: int) -> Costs:
    """Estimate the parts of a short pretraining by the time of a held-out image, and by what its hooks encode.

    Writing a picture and a checkpoint takes about as long as building model and data, as measured.

    Args:
        cfg: The config of the pretraining.
        timed: What was measured.
        held_out: Images of a validation.
        trained: Images of the training.
    """
    build, image = timed.seconds_to_build, timed.seconds_per_validation / held_out
    measured = 0 if cfg.model.encoder.get('norm_eval') else _read_argument(cfg, BatchNormStatisticsHook, 'images')
    recalibration = (
        image * min(measured, trained) if cfg.model.encoder.type == 'SparseCNN' else 0.0
    )  # others have no batch norms
    drawn = _read_argument(cfg, ReconstructionHook, 'num_images')
    drawing = timed.seconds_per_validation + image * min(drawn, held_out) + build
    fixed = (
        2 * build  # of the training itself, and what its checks before the first step take
        + 2 * drawing  # the first picture, and the last one with the last validation
        + 2 * recalibration  # of the last checkpoint, and of the model that is left
        + min(MOST_JUDGED, held_out) * image  # of the verdict
        + build  # of the model that is judged
    )
    if _find_hook(cfg, WatchHook) is not None:
        watched = 2 * min(FEWEST_IMAGES, max(held_out, trained))  # two crops of each image, or two splits
        fixed += FEWEST * (watched * image + recalibration)
    return Costs(timed.seconds_per_step, drawing + recalibration, fixed)


def _read_argument(cfg: Config, hook: type, name: str) -> int:
    """Return the number of images that a hook is given, or has by default; 0 without this hook."""
    given = _find_hook(cfg, hook)
    return 0 if given is None else int(given.get(name, inspect.signature(hook).parameters[name].default))


def _find_hook(cfg: Config, hook: type) -> Any:
    """Return the config of a hook; None if the training has none of this class."""
    hooks = [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
    return next((one for one in hooks if one and one['type'].removeprefix(f'{SCOPE}.') == hook.__name__), None)
