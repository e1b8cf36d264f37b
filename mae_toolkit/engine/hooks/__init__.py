"""Hooks for training runs, in addition to those of MMEngine."""

from mae_toolkit.engine.hooks.batch_norm_statistics import BatchNormStatisticsHook
from mae_toolkit.engine.hooks.broken_images import BrokenImagesHook
from mae_toolkit.engine.hooks.compile import CompileHook
from mae_toolkit.engine.hooks.detection import DetectionHook
from mae_toolkit.engine.hooks.freeze_encoder import FreezeEncoderHook
from mae_toolkit.engine.hooks.iteration_seed import IterationSeedHook
from mae_toolkit.engine.hooks.loss_curve import LossCurveHook
from mae_toolkit.engine.hooks.loss_spike import LossSpikeHook
from mae_toolkit.engine.hooks.masking_schedule import MaskingScheduleHook
from mae_toolkit.engine.hooks.momentum import MomentumHook
from mae_toolkit.engine.hooks.nan_guard import NaNGuardHook, TrainingDiverged
from mae_toolkit.engine.hooks.preemption import PreemptionHook
from mae_toolkit.engine.hooks.profile import ProfileHook
from mae_toolkit.engine.hooks.progress import ProgressHook
from mae_toolkit.engine.hooks.rank_watch import RankWatchHook
from mae_toolkit.engine.hooks.reconstruction import ReconstructionHook
from mae_toolkit.engine.hooks.run_record import RunRecordHook
from mae_toolkit.engine.hooks.safe_checkpoint import SafeCheckpointHook
from mae_toolkit.engine.hooks.segmentation import SegmentationHook
from mae_toolkit.engine.hooks.sharded_checkpoint import ShardedCheckpointHook
from mae_toolkit.engine.hooks.speed import SpeedHook
from mae_toolkit.engine.hooks.validation_check import ValidationCheckHook
from mae_toolkit.engine.hooks.watch import WatchHook

__all__ = [
    'BatchNormStatisticsHook',
    'BrokenImagesHook',
    'CompileHook',
    'DetectionHook',
    'FreezeEncoderHook',
    'IterationSeedHook',
    'LossCurveHook',
    'LossSpikeHook',
    'MaskingScheduleHook',
    'MomentumHook',
    'NaNGuardHook',
    'PreemptionHook',
    'ProfileHook',
    'ProgressHook',
    'RankWatchHook',
    'ReconstructionHook',
    'RunRecordHook',
    'SafeCheckpointHook',
    'SegmentationHook',
    'ShardedCheckpointHook',
    'SpeedHook',
    'TrainingDiverged',
    'ValidationCheckHook',
    'WatchHook',
]
