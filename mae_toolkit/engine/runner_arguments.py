"""Arguments of MMEngine's runner that follow from others: stages, the name of the run, and its seed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.checkpoints.files import newest_checkpoint, read_meta
from mae_toolkit.datasets.training_classes import use_training_classes
from mae_toolkit.engine.config_text import CachedTextConfig


def prepare_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a runner with all that MMEngine wants and a config may leave out.

    - Validation and test, which MMEngine accepts only with a loop and an evaluator, or with none of them.
    - ``experiment_name``, made of config and work directory.
    - The seed of a run that is resumed, if the config names none.

    The config comes back as one that caches its text, as MMEngine formats it for each checkpoint.

    Args:
        arguments: Keyword arguments for ``Runner``.
    """
    prepared = dict(arguments)
    if isinstance(prepared.get('cfg'), Config):
        prepared['cfg'] = CachedTextConfig.from_config(prepared['cfg'])
    for stage in ('val', 'test'):
        loader = prepared.get(f'{stage}_dataloader')
        if loader is None:
            prepared[f'{stage}_cfg'] = prepared[f'{stage}_evaluator'] = None
            continue
        prepared[f'{stage}_dataloader'] = use_training_classes(loader, prepared.get('train_dataloader'))
        if prepared.get(f'{stage}_evaluator') is None:
            prepared[f'{stage}_evaluator'] = []
    if prepared.get('experiment_name') is None and 'work_dir' in prepared:
        prepared['experiment_name'] = make_experiment_name(prepared['work_dir'], prepared.get('cfg'))
    if prepared.get('resume'):
        prepared['randomness'] = add_saved_seed(prepared)
    return prepared


def make_experiment_name(work_dir: str | Path, cfg: Any = None) -> str:
    """Name a run after its config and its work directory, such as ``quickstart-3f2a9c01``.

    Runs of one name in a process share their logs in MMEngine, so two runs of one config need different names.

    Args:
        work_dir: The work directory.
        cfg: The config, if it was read from a file.
    """
    stem = Path(getattr(cfg, 'filename', None) or 'run').stem
    return f'{stem}-{hashlib.sha1(str(Path(work_dir).resolve()).encode()).hexdigest()[:8]}'


def add_saved_seed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``randomness`` of a runner's arguments, with the seed that the run drew when it started.

    Order and augmentation follow from the seed, so with a new one the run would see other images. The seed is needed
    before the data loaders are built, which is before MMEngine reads it from the checkpoint.

    Args:
        arguments: Keyword arguments for ``Runner``; without ``resume``, or with a seed, nothing changes.
    """
    randomness = dict(arguments.get('randomness') or {})
    if not arguments.get('resume') or randomness.get('seed') is not None:
        return randomness
    search = arguments['resume'] == 'auto' or arguments.get('load_from') is None
    file = newest_checkpoint(arguments['work_dir']) if search else arguments['load_from']
    if file is None:
        return randomness
    return randomness | {'seed': read_meta(file).get('seed')}
