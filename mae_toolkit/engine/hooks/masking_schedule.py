"""Masks that change while training goes on."""

from mmengine.hooks import Hook

from mae_toolkit.arguments import Listed, Number, check_value
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS

# What arguments of a masking can be, at every step.
RANGES = {
    'ratio': Number(0, 1),
    'predict_ratio': Number(0, 1),
    'unit': Number(1, whole=True),
    'block': Number(1, whole=True),
}


@HOOKS.register_module()
class MaskingScheduleHook(Hook):
    """Moves one argument of the masking through values as training goes on: easy masks first, say.

    Progress is that of iterations, so that a resumed run goes on where it was.

    Args:
        name (str): Of the argument, such as ``'ratio'``, ``'unit'``, or what a masking has of its own.
        values (tuple): From the first to the last of training, evenly spaced.
        mode (str): ``'linear'`` goes straight from one to the next; ``'step'`` stays at each for the same time.

    Raises:
        UserError: If the masking has no such argument, or the mode is unknown.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, name, values, mode='linear'):
        if mode not in ('linear', 'step'):
            raise UserError(f'mode={mode!r} is neither "linear" nor "step".')
        if not isinstance(values, list | tuple) or len(values) < 2:
            raise UserError(f'values={values!r}: a schedule goes through two values or more.')
        if mode == 'linear' or name in RANGES:
            check_value('MaskingScheduleHook: values', values, Listed(RANGES.get(name, Number())))
        if mode == 'linear' and RANGES.get(name, Number()).whole:
            raise UserError(f'MaskingScheduleHook: {name} is a whole number, which mode="step" keeps: {values!r}.')
        self.name, self.values, self.mode = name, tuple(values), mode

    def value(self, progress):
        """The value at a share of training between 0 and 1."""
        if self.mode == 'step':
            return self.values[min(int(progress * len(self.values)), len(self.values) - 1)]
        place = progress * (len(self.values) - 1)
        i = min(int(place), len(self.values) - 2)
        return self.values[i] + (self.values[i + 1] - self.values[i]) * (place - i)

    def before_train(self, runner):
        """Check that there is something to move."""
        masking = unwrap(runner.model).masking
        if not hasattr(masking, self.name):
            raise UserError(
                f'The masking {type(masking).__name__} has no {self.name!r} for MaskingScheduleHook to move.'
            )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Set the value of this iteration."""
        progress = runner.iter / max(runner.max_iters - 1, 1)
        setattr(unwrap(runner.model).masking, self.name, self.value(progress))
