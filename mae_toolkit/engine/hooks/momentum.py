"""Teachers that follow the encoder."""

from mmengine.hooks import Hook

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import FollowsEncoder
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class MomentumHook(Hook):
    """Moves teachers towards the encoder after each step of the optimizer (data2vec, arXiv:2202.03555, section 3.3).

    A teacher becomes m * teacher + (1 - m) * encoder, where m goes straight from ``momentum`` to ``end_momentum``
    within the first share ``ramp`` of the iterations, and stays there. In a run that is not resumed, the teacher is at
    first a copy of the encoder. Teachers are the parts of the model that can ``follow(encoder, momentum)``.

    Args:
        momentum (float), end_momentum (float): Between 0 and 1.
        ramp (float): Share of the iterations, between 0 and 1.

    Raises:
        UserError: If a number makes no sense, or the model has no teacher.
    """

    def __init__(self, momentum=0.9998, end_momentum=0.99999, ramp=0.3):
        for name, value in (('momentum', momentum), ('end_momentum', end_momentum), ('ramp', ramp)):
            if not 0 <= value <= 1:
                raise UserError(f'MomentumHook: {name}={value} is not between 0 and 1.')
        self.momentum, self.end_momentum, self.ramp = momentum, end_momentum, ramp
        self._handle = None

    def value(self, progress):
        """The momentum at a share of training between 0 and 1."""
        share = min(progress / self.ramp, 1) if self.ramp else 1
        return self.momentum + (self.end_momentum - self.momentum) * share

    def before_train(self, runner):
        """Copy the encoder, if the run is at its beginning, and listen to the optimizer's steps."""
        model = unwrap(runner.model)
        teachers = [part for part in model.modules() if isinstance(part, FollowsEncoder)]
        if not teachers:
            raise UserError(
                'MomentumHook finds no teacher in the model: choose a target with one, such as EMATarget, or leave the '
                'hook out.'
            )

        def follow(momentum):
            for teacher in teachers:
                teacher.follow(model.encoder, momentum)

        if runner.iter == 0:
            follow(0.0)
        # A step that accumulation or loss scaling leaves out is no step of the optimizer.
        optimizer = runner.optim_wrapper.optimizer
        self._handle = optimizer.register_step_post_hook(lambda *_: follow(self.value(runner.iter / runner.max_iters)))

    def after_train(self, runner):
        """Stop listening."""
        self._handle.remove()
