"""Training on MMEngine: the runner, exact resume, safe checkpoints, guards, mixed precision on CPUs.

All that leans on MMEngine's private parts is in ``_mmengine.py`` and ``_mmengine_files.py``.
"""

from mae_toolkit.checkpoints.files import extract_state_dict, load_training, newest_checkpoint
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.engine import hooks
from mae_toolkit.engine.data_parallel import DataParallel, data_parallel_config
from mae_toolkit.engine.distributed import init_distributed, unwrap
from mae_toolkit.engine.fsdp import FSDP2
from mae_toolkit.engine.knn_loop import KNNTestLoop
from mae_toolkit.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mae_toolkit.engine.loops import EpochTrainLoop, MAETestLoop, MAEValLoop
from mae_toolkit.engine.optim import AutocastOptimWrapper, GroupedOptimWrapperConstructor
from mae_toolkit.engine.optimizers import Lamb, Lars
from mae_toolkit.engine.runner import Runner
from mae_toolkit.files import atomic_write

__all__ = [
    'FSDP2',
    'AutocastOptimWrapper',
    'DataParallel',
    'EpochTrainLoop',
    'GroupedOptimWrapperConstructor',
    'KNNTestLoop',
    'Lamb',
    'Lars',
    'LayerDecayOptimWrapperConstructor',
    'MAETestLoop',
    'MAEValLoop',
    'Runner',
    'atomic_write',
    'data_parallel_config',
    'extract_state_dict',
    'hooks',
    'init_distributed',
    'load_training',
    'load_weights',
    'newest_checkpoint',
    'unwrap',
]
