"""The seed of a run that goes on and whose config names none."""

from __future__ import annotations

from typing import Any

from mae_toolkit.checkpoints.files import load_training, newest_checkpoint


def with_saved_seed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the ``randomness`` of a runner's arguments, with the seed that the run drew when it began.

    Order and augmentation follow from the seed, so with a new one the run would see other images. It has to be known
    before the data loaders are built, which is before MMEngine reads it from the checkpoint.
    """
    randomness = dict(arguments.get('randomness') or {})
    if not arguments.get('resume') or randomness.get('seed') is not None:
        return randomness
    search = arguments['resume'] == 'auto' or arguments.get('load_from') is None
    file = newest_checkpoint(arguments['work_dir']) if search else arguments['load_from']
    if file is None:
        return randomness
    return randomness | {'seed': (load_training(file).get('meta') or {}).get('seed')}
