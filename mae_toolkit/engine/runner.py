"""The runner: MMEngine's, with safe loading, quiet on the console, and on CPUs in several processes."""

import logging

import torch
from mmengine.dist import broadcast_object_list
from mmengine.runner import Runner as MMEngineRunner

from mae_toolkit.engine import checkpoint as checkpoints
from mae_toolkit.engine.distributed import init_distributed, unwrap, wrapper_cfg

# MMEngine's remarks about itself, of which no user can mend anything; they stay in the log file.
NOISE = (
    'Failed to search registry with scope',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'has no metainfo',
)


class Runner(MMEngineRunner):
    """Runs training, validation and test from a config.

    It differs from MMEngine's in that

    - checkpoints are loaded without executing code from them and refused where they do not fit the model;
    - ``resume=True`` continues from the newest checkpoint that is whole;
    - the console shows warnings and errors alone, while the log file keeps everything;
    - several processes work on CPUs too;
    - validation and test need no evaluator;
    - ``env_cfg=dict(num_threads=…)`` sets torch's threads.
    """

    def __init__(self, *args, **kwargs):
        for stage in ('val', 'test'):
            if kwargs.get(f'{stage}_dataloader') is not None and kwargs.get(f'{stage}_evaluator') is None:
                kwargs[f'{stage}_evaluator'] = []  # MMEngine wants all of dataloader, loop and evaluator, or none
        super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg):
        """Join the other processes, if any, before MMEngine would."""
        settings = env_cfg.get('dist_cfg', {})
        backend = settings.get('backend') if torch.cuda.is_available() else None
        init_distributed(self.launcher, backend, settings.get('timeout', 1800))
        if env_cfg.get('num_threads'):
            torch.set_num_threads(env_cfg['num_threads'])
        super().setup_env(env_cfg)

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        """Everything to the file, warnings to the console, where a progress bar is drawn."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(max(handler.level, logging.WARNING))
                handler.addFilter(_is_for_users)
        return logger

    def register_default_hooks(self, hooks=None):
        """Register MMEngine's hooks and those of the config; one that is None is left out, whatever its name."""
        theirs = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        kept = {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in theirs}
        super().register_default_hooks(kept)

    @staticmethod
    def build_dataloader(dataloader, seed=None, diff_rank_seed=False):
        """Build a loader; memory is pinned only where there is a device to copy to, as torch warns elsewhere."""
        if isinstance(dataloader, dict) and not torch.accelerator.is_available():
            dataloader = {**dataloader, 'pin_memory': False}
        return MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)

    def wrap_model(self, model_wrapper_cfg, model):
        """Wrap the model for data parallelism on this machine's device."""
        if self.distributed and model_wrapper_cfg is None:
            model_wrapper_cfg = wrapper_cfg()
        return super().wrap_model(model_wrapper_cfg, model)

    def load_or_resume(self):
        """Load or resume as configured; all processes take the checkpoint that the first one finds."""
        if self._resume and self._load_from is None and not self._has_loaded:
            found = [checkpoints.newest_checkpoint(self.work_dir)] if self.rank == 0 else [None]
            broadcast_object_list(found)
            if found[0] is None:
                self.logger.warning(f'No checkpoint to resume from in {self.work_dir}: training starts anew.')
                return
            self._load_from = str(found[0])
        super().load_or_resume()

    def resume(self, filename, resume_optimizer=True, resume_param_scheduler=True, map_location='cpu'):
        """Continue a run: weights, optimizer, schedulers, counters, logs and what hooks saved."""
        checkpoints.load_training(filename)  # refuses weights alone
        planned = _ends(self.param_schedulers)
        super().resume(filename, resume_optimizer, resume_param_scheduler, 'cpu')
        for here, there in zip(planned, _ends(self.param_schedulers), strict=True):
            if here != there:
                self.logger.warning(
                    f'In {filename} a schedule of the learning rate ended at step {there} and here ends at {here}: '
                    'it goes on as it was; to train longer by a new schedule, start with load_from.'
                )

    def load_checkpoint(self, filename, map_location='cpu', strict=True, revise_keys=()):
        """Load a model's weights from a checkpoint that fits it exactly.

        Raises:
            UserError: If it would execute code, is broken, or does not fit.
        """
        checkpoint = checkpoints.load(filename, mmap=False)  # the run may remove the file while it uses the tensors
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model, state = unwrap(self.model), checkpoints.state_dict_of(checkpoint)
        checkpoints.check_fit(filename, state, model)
        model.load_state_dict(state)
        self._has_loaded = True
        self.logger.info(f'Loaded {filename}')
        return checkpoint


def _is_for_users(record):
    return not any(noise in record.getMessage() for noise in NOISE)


def _ends(schedulers):
    """Where the schedules end, in their own steps."""
    return [scheduler.end for scheduler in schedulers] if isinstance(schedulers, list) else []
