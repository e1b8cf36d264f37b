"""Let teachers follow the encoder."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.protocols import FollowsEncoder
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class MomentumHook(Hook):
    """Hook that moves teachers toward the encoder after each optimizer step (data2vec, arXiv:2202.03555, section 3.3).

    A teacher becomes m * teacher + (1 - m) * encoder, where m rises linearly from ``momentum`` to ``end_momentum``
    during the first ``ramp`` of the iterations, and stays there. At the start of a run, unless it is resumed, the
    teacher is a copy of the encoder. Teachers are all parts of the model with a method ``follow(encoder, momentum)``.

    Args:
        momentum: Momentum at the start, 0 to 1.
        end_momentum: Momentum after the ramp, 0 to 1.
        ramp: Fraction of the iterations, 0 to 1.

    Raises:
        UserError: If a number is out of range, or the model has no teacher.
    """

    def __init__(self, momentum: float = 0.9998, end_momentum: float = 0.99999, ramp: float = 0.3) -> None:
        for name, value in (('momentum', momentum), ('end_momentum', end_momentum), ('ramp', ramp)):
            if not 0 <= value <= 1:
                raise UserError(f'MomentumHook: {name}={value} must be between 0 and 1.')
        self.momentum, self.end_momentum, self.ramp = momentum, end_momentum, ramp
        self._handle: Any = None

    def value(self, progress: float) -> float:
        """Return the momentum at a point of training.

        Args:
            progress: 0 at the start and 1 at the end.
        """
        share = min(progress / self.ramp, 1) if self.ramp else 1
        return self.momentum + (self.end_momentum - self.momentum) * share

    def before_train(self, runner: Runner) -> None:
        """Copy the encoder at the start of a run, and register a hook on the optimizer's steps."""
        model = unwrap(runner.model)
        teachers = [part for part in model.modules() if isinstance(part, FollowsEncoder)]
        if not teachers:
            raise UserError(
                'MomentumHook finds no teacher in the model: choose a target with one, such as EMATarget, or leave the '
                'hook out.'
            )

        def follow(momentum: float) -> None:
            for teacher in teachers:
                teacher.follow(model.encoder, momentum)

        if runner.iter == 0:
            with evaluating(model):  # in training mode, a teacher would keep its own statistics of batch norms
                follow(0.0)
        # Not after each iteration: gradient accumulation and loss scaling skip steps of the optimizer.
        optimizer = runner.optim_wrapper.optimizer
        self._handle = optimizer.register_step_post_hook(lambda *_: follow(self.value(runner.iter / runner.max_iters)))

    def after_train(self, runner: Runner) -> None:
        """Remove the hook on the optimizer."""
        self._handle.remove()
