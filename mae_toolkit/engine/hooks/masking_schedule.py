"""Change an argument of the masking during training."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.arguments import Listed, Number, check_value
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS

# Ranges of arguments of maskings, at every step.
RANGES = {
    'ratio': Number(0, 1),
    'predict_ratio': Number(0, 1),
    'unit': Number(1, whole=True),
    'block': Number(1, whole=True),
}


@HOOKS.register_module()
class MaskingScheduleHook(Hook):
    """Hook that moves an argument of the masking through values during training, for example to start with easy masks.

    ``MaskingScheduleHook(name='ratio', values=(0.5, 0.75))`` raises the ratio from 0.5 to 0.75. The value follows from
    the number of the iteration, so that a resumed run continues where it was.

    Args:
        name: Name of the argument, such as ``'ratio'``, ``'unit'``, or an argument of your own masking.
        values: Values from the start to the end of training, at equal distances; at least two.
        mode: ``'linear'`` interpolates between the values; ``'step'`` stays at each for the same time.

    Raises:
        UserError: If the masking has no such argument, the mode is unknown, or a value is out of range.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, name: str, values: Any, mode: str = 'linear') -> None:
        if mode not in ('linear', 'step'):
            raise UserError(f'mode={mode!r} must be "linear" or "step".')
        if not isinstance(values, list | tuple) or len(values) < 2:
            raise UserError(f'values={values!r}: a schedule needs two values or more.')
        if mode == 'linear' or name in RANGES:
            check_value('MaskingScheduleHook: values', values, Listed(RANGES.get(name, Number())))
        if mode == 'linear' and RANGES.get(name, Number()).whole:
            raise UserError(f'MaskingScheduleHook: {name} must stay a whole number: set mode="step".')
        self.name, self.values, self.mode = name, tuple(values), mode

    def value(self, progress: float) -> Any:
        """Return the value at a point of training.

        Args:
            progress: 0 at the start and 1 at the end.
        """
        if self.mode == 'step':
            return self.values[min(int(progress * len(self.values)), len(self.values) - 1)]
        place = progress * (len(self.values) - 1)
        i = min(int(place), len(self.values) - 2)
        return self.values[i] + (self.values[i + 1] - self.values[i]) * (place - i)

    def before_train(self, runner: Runner) -> None:
        """Check that the masking has the argument."""
        masking = unwrap(runner.model).masking
        if not hasattr(masking, self.name):
            raise UserError(
                f'The masking {type(masking).__name__} has no {self.name!r} for MaskingScheduleHook to move.'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the value of this iteration."""
        progress = runner.iter / max(runner.max_iters - 1, 1)
        setattr(unwrap(runner.model).masking, self.name, self.value(progress))
