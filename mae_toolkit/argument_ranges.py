"""Ranges of the settings of a config, by name: many libraries check them late, or not at all."""

import math
from collections.abc import Mapping

from mae_toolkit.arguments import Choice, Listed, Number, Rule, check_value, join_path

COUNT = Number(1, whole=True)
COUNT_OR_NONE = Number(1, whole=True, also=(None,))
INDEX = Number(0, whole=True)
INTERVAL = Number(1, whole=True, also=(-1,))  # -1 means never in MMEngine
POSITIVE = Number(0, above=True)
NOT_NEGATIVE = Number(0)
SHARE = Number(0, 1)
RATE = Number(0, 1, below=True)  # of dropout, or of a running mean
FLAG = Choice((True, False, 0, 1))
FLAG_OR_NONE = Choice((True, False, 0, 1, None))
FLOATS = Choice((None, 'float16', 'bfloat16', 'float32', 'float64'))

# Settings of the run itself, by their place in a config.
SETTINGS: dict[str, Rule] = {
    'train_cfg.max_epochs': COUNT,
    'train_cfg.max_iters': COUNT,
    'train_cfg.end_iter': COUNT_OR_NONE,
    'train_cfg.val_interval': COUNT,
    'train_cfg.val_begin': INDEX,
    'optim_wrapper.accumulative_counts': COUNT,
    'optim_wrapper.dtype': FLOATS,
    'optim_wrapper.clip_grad.max_norm': POSITIVE,
    'optim_wrapper.clip_grad.norm_type': Number(0, above=True, also=('inf', float('inf'))),
    'optim_wrapper.clip_grad.clip_value': POSITIVE,
    'optim_wrapper.clip_grad.error_if_nonfinite': FLAG,
    'optim_wrapper.clip_grad.foreach': FLAG_OR_NONE,
    'auto_scale_lr.base_batch_size': COUNT,
    'auto_scale_lr.enable': FLAG,
    'randomness.seed': Number(0, 2**32 - 1, whole=True, also=(None,)),
    'randomness.diff_rank_seed': FLAG,
    'randomness.deterministic': FLAG,
    'env_cfg.num_threads': COUNT_OR_NONE,
    'env_cfg.cudnn_benchmark': FLAG,
    'env_cfg.resource_limit': COUNT,
    'env_cfg.mp_cfg.mp_start_method': Choice(('fork', 'spawn', 'forkserver')),
    'env_cfg.mp_cfg.opencv_num_threads': INDEX,
    'env_cfg.dist_cfg.backend': Choice(('nccl', 'gloo', 'mpi', 'hccl', 'cncl', 'mccl', 'musa')),
    'env_cfg.dist_cfg.start_timeout': POSITIVE,
    'env_cfg.dist_cfg.timeout': POSITIVE,
    'env_cfg.dist_cfg.work_timeout': POSITIVE,
    'env_cfg.dist_cfg.silence_timeout': Number(5),
    'log_level': Choice(('NOTSET', 'DEBUG', 'INFO', 'WARN', 'WARNING', 'ERROR', 'CRITICAL', 'FATAL')),
    'launcher': Choice(('none', 'pytorch', 'slurm', 'mpi')),
}
LOADER: dict[str, Rule] = {
    'batch_size': COUNT,
    'num_workers': INDEX,
    'prefetch_factor': COUNT_OR_NONE,
    'persistent_workers': FLAG,
    'pin_memory': FLAG,
    'drop_last': FLAG,
    'timeout': NOT_NEGATIVE,
    'num_batch_per_epoch': COUNT,
}
SCHEDULE: dict[str, Rule] = {
    'begin': NOT_NEGATIVE,
    'end': POSITIVE,
    'start_factor': Number(0, 1, above=True),
    'end_factor': SHARE,
    'factor': Number(0, 1, above=True),
    'gamma': POSITIVE,
    'power': POSITIVE,
    'eta_min': NOT_NEGATIVE,
    'eta_min_ratio': NOT_NEGATIVE,
    'eta_max': POSITIVE,
    'T_max': Number(1, whole=True, also=(None,)),
    'step_size': COUNT,
    'total_steps': COUNT,
    'milestones': Listed(INDEX, ascending=True),
    'periods': Listed(COUNT),
    'restart_weights': Listed(NOT_NEGATIVE),
    'pct_start': Number(0, 1, above=True, below=True),
    'div_factor': POSITIVE,
    'final_div_factor': POSITIVE,
    'patience': INDEX,
    'cooldown': INDEX,
    'threshold': NOT_NEGATIVE,
    'min_value': Number(0, many=True),
}
OPTIMIZER: dict[str, Rule] = {
    'lr': POSITIVE,
    'weight_decay': NOT_NEGATIVE,
    'eps': POSITIVE,
    'betas': Listed(RATE),
    'momentum': RATE,
    'dampening': SHARE,
    'alpha': RATE,
    'trust_coeff': POSITIVE,
    'max_grad_norm': Number(0, above=True, also=(None,)),
    'nesterov': FLAG,
    'amsgrad': FLAG,
    'fused': FLAG_OR_NONE,
    'foreach': FLAG_OR_NONE,
    'always_adapt': FLAG,
}
HOOK: dict[str, Rule] = {
    'interval': INTERVAL,
    'interval_exp_name': COUNT,
    'max_keep_ckpts': INTERVAL,
    'save_begin': INDEX,
    'max_skips': INDEX,
    'max_share': SHARE,
    'min_seen': INDEX,
    'num_images': COUNT,
    'side': COUNT,
    'line_interval': POSITIVE,
    'indices': Listed(INDEX, also=(None,)),
    'seed': INDEX,
    'masks': INDEX,
    'momentum': Number(0, 1),
    'steps': INDEX,
    'lr_scale': SHARE,
    'images': COUNT,
    'share': SHARE,
    'begin_iter': INDEX,
    'begin_epoch': INDEX,
    'patience': COUNT,
    'score_thr': SHARE,
    'window': COUNT,
    'warmup': COUNT,
    'deviations': POSITIVE,
    'factor': Number(1, above=True),
    'max_rollbacks': INDEX,
}
LOG_PROCESSOR: dict[str, Rule] = {'window_size': COUNT, 'num_digits': INDEX, 'by_epoch': FLAG}
LOOP: dict[str, Rule] = {'seed': INDEX, 'dtype': FLOATS, 'fp16': FLAG}
DATASET: dict[str, Rule] = {
    'repeat': COUNT,
    'times': COUNT,
    'channels': COUNT,
    'seed': INDEX,
    'label_seed': INDEX,
    'fraction': Number(0, 1, above=True),
    'label_fraction': Number(0, 1, above=True, also=(None,)),
    'max_tries': COUNT,
    'max_refetch': COUNT,
    'ignore_index': Number(-1, 255, whole=True),
}
LENGTHS = Number(0, above=True, also=(None, math.inf), many=True)  # sides in pixels, or relative to others
TRANSFORM: dict[str, Rule] = {
    'scale': LENGTHS,
    'scales': LENGTHS,
    'scale_factor': LENGTHS,
    'img_scale': LENGTHS,
    'crop_size': LENGTHS,
    'ratio_range': Listed(Number(0, above=True), ascending=True, also=(None,), length=2, equal=True),
    'scaling_ratio_range': Listed(Number(0, above=True), ascending=True, length=2, equal=True),
    'prob': Number(0, 1, many=True),
    'cat_max_ratio': Number(0, 1, above=True),
    'divisor': COUNT,
    'size_divisor': COUNT_OR_NONE,
}
PREPROCESSOR: dict[str, Rule] = {
    'mean': Number(many=True, also=(None,)),
    'std': Number(0, above=True, many=True, also=(None,)),
    'pad_size_divisor': COUNT,
    'size': Number(1, whole=True, many=True, also=(None,)),
    'size_divisor': COUNT_OR_NONE,
    'random_erasing': SHARE,
    'mask_pad_value': Number(whole=True),
}
MIXUP: dict[str, Rule] = {
    'mixup_alpha': NOT_NEGATIVE,
    'cutmix_alpha': NOT_NEGATIVE,
    'prob': SHARE,
    'switch_prob': SHARE,
    'mode': Choice(('batch', 'pair', 'elem')),
    'correct_lam': FLAG,
}
# Settings of the samplers that choose boxes to learn from.
SAMPLER: dict[str, Rule] = {'num': COUNT, 'pos_fraction': SHARE}
# Arguments of encoders, decoders, targets and heads that mean the same in all of them, in those of timm, too.
MODEL: dict[str, Rule] = {
    'depth': COUNT,
    'depths': Number(1, whole=True, many=True),
    'stages': Number(1, whole=True, many=True),
    'embed_dim': Number(1, whole=True, many=True),
    'dims': Number(1, whole=True, many=True),
    'num_heads': Number(1, whole=True, many=True),
    'mlp_ratio': Number(0, above=True, many=True),
    'img_size': Number(1, whole=True, many=True),
    'patch_size': Number(1, whole=True, many=True),
    'window_size': Number(1, whole=True, many=True, also=(None,)),
    'in_chans': COUNT,
    'in_channels': Number(1, whole=True, many=True),
    'out_channels': Number(1, whole=True, many=True, also=(None,)),
    'width': COUNT,
    'reg_tokens': INDEX,
    'patch': COUNT,
    'num_codes': COUNT_OR_NONE,
    'levels': COUNT,
    'bins': COUNT,
    'norm_eps': Number(0, above=True, also=(None,)),
    'init_values': Number(0, above=True, also=(None,)),
    'drop_path_rate': RATE,
    'drop_rate': RATE,
    'pos_drop_rate': RATE,
    'attn_drop_rate': RATE,
    'proj_drop_rate': RATE,
    'dropout': RATE,
    'dropout_ratio': Number(0, 1, below=True, also=(-1,)),  # -1 means no dropout in MMSegmentation
    'label_smoothing': RATE,
    'head_std': NOT_NEGATIVE,
    'momentum': SHARE,
    'eps': NOT_NEGATIVE,
    'noise': Number(0, also=(None,)),
    'weight': NOT_NEGATIVE,
    'loss_weight': Number(0, many=True),
    'beta': NOT_NEGATIVE,
    'num_classes': COUNT_OR_NONE,
    'min_cells': COUNT,
    'blocks': COUNT,
    'frozen_stages': Number(-1, whole=True),
    'score_thr': SHARE,
    'pos_iou_thr': SHARE,
    'neg_iou_thr': Number(0, 1, many=True),
    'iou_threshold': SHARE,
    'num_outs': COUNT_OR_NONE,
    'num_convs': INDEX,
}
BY_REGISTRY: dict[str, dict[str, Rule]] = {
    'PARAM_SCHEDULERS': SCHEDULE,
    'OPTIMIZERS': OPTIMIZER,
    'HOOKS': HOOK,
    'LOG_PROCESSORS': LOG_PROCESSOR,
    'LOOPS': LOOP,
    'DATASETS': DATASET,
    'TRANSFORMS': TRANSFORM,
}


def check_ranges(path: str, given: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    """Refuse values out of the range of their name.

    Args:
        path: Where the values are in a config; empty at its top.
        given: Values by name; those without a rule are skipped.
        rules: Ranges by name.

    Raises:
        UserError: If a value is out of its range.
    """
    for name, value in given.items():
        if name in rules and not _holds_dicts(value):
            check_value(join_path(path, name), value, rules[name])


def _holds_dicts(value: object) -> bool:
    """Return whether a value is the config of parts, which only share their name with a number of another class."""
    return isinstance(value, dict) or (isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value))
