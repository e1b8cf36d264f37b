"""The runner: MMEngine's, with safe loading, a quiet console, and several processes on CPUs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, master_only
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from mae_toolkit.checkpoints import files as checkpoint_files
from mae_toolkit.datasets.reproducible import ReportingCollate, ReproducibleDataset
from mae_toolkit.engine import _mmengine
from mae_toolkit.engine.classes import check_number_of_classes
from mae_toolkit.engine.code_guard import refuse_code_in_files
from mae_toolkit.engine.console import quiet_console
from mae_toolkit.engine.data_check import check_run_data
from mae_toolkit.engine.data_loading import describe_place, find_class, prepare_dataloader, restarts_epochs
from mae_toolkit.engine.distributed import init_distributed, unwrap
from mae_toolkit.engine.engine_runner import EngineRunner
from mae_toolkit.engine.hooks.broken_images import BrokenImagesHook
from mae_toolkit.engine.hooks.preemption import listen_for_signals
from mae_toolkit.engine.hooks.rank_watch import tell_other_ranks
from mae_toolkit.engine.loading import LoadedCheckpoint, load_into_runner, load_to_resume
from mae_toolkit.engine.resume_checks import check_training_state
from mae_toolkit.engine.runner_arguments import prepare_arguments
from mae_toolkit.engine.schedules import TrainingLength, check_schedules, compare_ends, list_ends
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.evaluation.coco import log_evaluation, log_prints, repair_annotations
from mae_toolkit.registry import DATASETS, HOOKS

# Hooks of every run, by the name under which a config changes them, or leaves one out with None. Of those of one
# priority, the first here acts first: PreemptionHook last, as it ends a run within the hooks of a step.
STANDARD_HOOKS = {
    'iteration_seed': {'type': 'mae_toolkit.IterationSeedHook'},
    'broken_images': {'type': 'mae_toolkit.BrokenImagesHook'},
    'rank_watch': {'type': 'mae_toolkit.RankWatchHook'},
    'validation_check': {'type': 'mae_toolkit.ValidationCheckHook'},
    'speed': {'type': 'mae_toolkit.SpeedHook'},
    'run_record': {'type': 'mae_toolkit.RunRecordHook'},
    'preemption': {'type': 'mae_toolkit.PreemptionHook'},
}


class Runner(EngineRunner):
    """Runner of training, validation and test from a config.

    It differs from MMEngine's runner in that

    - checkpoints are loaded without executing code from them, and are refused where they do not fit the model;
    - ``resume='auto'`` continues from the newest undamaged checkpoint of the work directory, whatever weights
      (``load_from``) the run once started with; ``resume=True`` without ``load_from`` does so, too;
    - the console shows only warnings and errors, while the log file keeps everything;
    - several processes work on CPUs, too;
    - the data is checked before a dataset is built, see :mod:`mae_toolkit.datasets.checks`;
    - validation and test need no evaluator;
    - ``env_cfg=dict(num_threads=…)`` sets the number of torch's threads.
    """

    _builds_training = False  # whether the part that is being built is for training

    build_model = _mmengine.wrap_build_method('build_model')
    build_visualizer = _mmengine.wrap_build_method('build_visualizer')
    build_log_processor = _mmengine.wrap_build_method('build_log_processor')
    register_custom_hooks = _mmengine.wrap_build_method('register_custom_hooks')
    set_randomness = _mmengine.wrap_build_method('set_randomness')

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse_code_in_files()
        _mmengine.import_yapf()
        super().__init__(*args, **prepare_arguments(kwargs))

    def train(self) -> nn.Module:
        """Check the data, then train, and return the trained model; errors in the test data are only warnings."""
        with tell_other_ranks(self):
            check_run_data(self.cfg, ('train', 'val', 'test'), Path(self.work_dir), self.logger, tolerated=('test',))
            with listen_for_signals(self.hooks):
                return super().train()

    def test(self) -> dict[str, Any]:
        """Check the data, then test, and return the metrics or losses by name."""
        with tell_other_ranks(self):
            check_run_data(self.cfg, ('test',), Path(self.log_dir), self.logger)
            return super().test()

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Join the other processes of the run, if there are any, before MMEngine would."""
        init_distributed(self.launcher, env_cfg, self.cfg.get('work_dir'))
        if env_cfg.get('num_threads'):
            torch.set_num_threads(env_cfg['num_threads'])
        super().setup_env(env_cfg)

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Build a logger that writes everything to its file, and only what users need to the console.

        See :func:`~mae_toolkit.engine.console.quiet_console`.
        """
        logger = super().build_logger(log_level, log_file, **kwargs)
        quiet_console(logger)
        return logger

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work directory; that of a test, or one that lies there already, beside the log."""
        folder = Path(self.work_dir)
        if not _mmengine.get_resume(self) and checkpoint_files.list_checkpoints(folder):
            folder = Path(self.log_dir)
        name = Path(self.cfg.filename or f'{self.timestamp}.py').name
        if self.cfg.filename and (folder / name).resolve() == Path(self.cfg.filename).resolve():
            folder = Path(self.log_dir)  # the file that is read keeps its comments
        self.cfg.dump(folder / name)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the training loop.

        MMEngine's loop over epochs starts an epoch from its beginning when it resumes within one, so
        :class:`~mae_toolkit.engine.loops.EpochTrainLoop`, which continues it, takes its place.

        Raises:
            UserError: If the model has another number of classes than the labels.
        """
        if isinstance(loop, dict) and restarts_epochs(loop):
            loop = {key: value for key, value in loop.items() if key != 'by_epoch'}
            loop['type'] = 'mae_toolkit.EpochTrainLoop'
        self._builds_training = True
        try:
            with wrap_build_error('The train_loop'):
                built = super().build_train_loop(loop)
        finally:
            self._builds_training = False
        check_number_of_classes(unwrap(self.model), built.dataloader.dataset)
        return built

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedules, and warn about what they do over the whole training that is probably not meant."""
        parts = [scheduler] if isinstance(scheduler, dict) else scheduler or []
        configs = [part for part in parts if isinstance(part, dict)]
        with wrap_build_error('The param_scheduler'):
            if configs and all('type' in part for part in configs) and hasattr(self.optim_wrapper, 'optimizer'):
                by_epoch = isinstance(self.train_loop, EpochBasedTrainLoop)
                max_epochs = self.max_epochs if by_epoch else None
                length = TrainingLength(self.max_iters, len(self.train_dataloader), max_epochs)
                for warning in check_schedules(configs, self.optim_wrapper.optimizer.defaults, length):
                    self.logger.warning(warning)
            return super().build_param_scheduler(scheduler)

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build the evaluator; COCO annotations in it that pycocotools would miscount are repaired."""
        with log_prints(self.logger):
            built = log_evaluation(super().build_evaluator(evaluator))
        repair_annotations(built, self.logger)
        return built

    def build_dataloader(
        self, dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose order and augmentation follow from the seed of the run.

        MMEngine gives samplers a seed only without ``diff_rank_seed``, and datasets none. A dataset of another library
        draws from global random generators, and stops at a broken file; see :class:`ReproducibleDataset`.

        Args:
            dataloader: The loader, or its config.
            seed: Seed for the samplers; the rank is added to it with ``diff_rank_seed``.
            diff_rank_seed: Whether each process has a seed of its own.
        """
        place = describe_place(dataloader)
        if isinstance(dataloader, dict):
            shared = _mmengine.get_shared_seed(self)
            if shared is None and seed is not None:
                shared = seed - self.rank if diff_rank_seed else seed  # MMEngine has added the rank
            dataloader = prepare_dataloader(dataloader, shared, self._builds_training, self.logger)
        with wrap_build_error(f'The dataloader{place}'), log_prints(self.logger):
            loader = super().build_dataloader(dataloader, seed, diff_rank_seed)
        if isinstance(dataloader, dict) and find_class(DATASETS, dataloader['dataset']) is ReproducibleDataset:
            report = any(isinstance(hook, BrokenImagesHook) for hook in self.hooks)
            loader.collate_fn = ReportingCollate(loader.collate_fn, report)
        return loader

    def register_hooks(
        self, default_hooks: dict[str, Any] | None = None, custom_hooks: Sequence[Any] | None = None
    ) -> None:
        """Register all hooks; a standard hook that is among ``custom_hooks`` is not registered a second time."""
        default_hooks = dict(default_hooks or {})
        custom = [find_class(HOOKS, hook) for hook in custom_hooks or ()]
        for name, hook in STANDARD_HOOKS.items():
            if find_class(HOOKS, hook) in custom:
                default_hooks.setdefault(name, None)
        super().register_hooks(default_hooks, custom_hooks)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register MMEngine's default hooks, the standard hooks of this toolkit and those of the config.

        Args:
            hooks: Hooks or their configs by name; one that is None is left out, whatever its name.
        """
        wanted = STANDARD_HOOKS | dict(hooks or {})
        kept = {name: hook for name, hook in wanted.items() if hook is not None or name in _mmengine.DEFAULT_HOOKS}
        with wrap_build_error('The default_hooks'):
            super().register_default_hooks(kept)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call a method of all hooks that have it; a ``TypeError`` in one keeps its stack trace."""
        _mmengine.call_hooks(self, fn_name, **kwargs)

    def load_or_resume(self) -> None:
        """Load or resume as configured; all processes use the checkpoint that the first one finds."""
        load_from, resume = _mmengine.get_load_from(self), _mmengine.get_resume(self)
        if (resume == 'auto' or (resume and load_from is None)) and not _mmengine.has_loaded(self):
            found = [checkpoint_files.newest_checkpoint(self.work_dir)] if self.rank == 0 else [None]
            broadcast_object_list(found)
            if found[0] is None:
                start = f'with the weights of {load_from}' if load_from else 'anew'
                self.logger.warning(f'No checkpoint to resume from in {self.work_dir}: training starts {start}.')
                _mmengine.cancel_resume(self)
            else:
                _mmengine.set_load_from(self, str(found[0]))
        super().load_or_resume()

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'cpu',
    ) -> None:
        """Continue a run: weights, optimizer, schedules, counters, logs and what hooks saved.

        Args:
            filename: A training checkpoint.
            resume_optimizer: Continue with the saved state of the optimizer.
            resume_param_scheduler: Continue with the saved states of the schedules.
            map_location: Ignored; checkpoints are always loaded to the CPU.

        Raises:
            UserError: If the checkpoint holds only weights, or does not fit the model, the optimizer or the schedules.
        """
        saved = load_to_resume(self, filename)
        optim_wrapper = self.optim_wrapper if resume_optimizer else None
        check_training_state(filename, saved.content, optim_wrapper, self.param_schedulers, unwrap(self.model))
        ends = list_ends(self.param_schedulers)
        try:
            super().resume(saved, resume_optimizer, resume_param_scheduler, 'cpu')
        except (ValueError, KeyError) as error:
            raise UserError(
                f'The optimizer in {filename} does not fit that of the config ({" ".join(str(error).split())}): resume '
                'with the same optimizer and rules of weight decay, or start anew with load_from.'
            ) from error
        for warning in compare_ends(filename, ends, list_ends(self.param_schedulers)):
            self.logger.warning(warning)

    def load_checkpoint(
        self,
        filename: str | LoadedCheckpoint,
        map_location: Any = 'cpu',
        strict: bool = True,
        revise_keys: Sequence[Any] = (),
    ) -> dict[str, Any]:
        """Load the weights of a checkpoint, and return all that the file holds.

        See :func:`~mae_toolkit.engine.loading.load_into_runner`.

        Args:
            filename: ``[FORMAT:]FILE[#PART]``, see :func:`~mae_toolkit.checkpoints.source.find_source`.
            map_location: Ignored; checkpoints are always loaded to the CPU.
            strict: Ignored; names and shapes always have to match.
            revise_keys: Ignored; names are used as they are in the file.

        Raises:
            UserError: If loading it would execute code, if it is damaged, or if it does not fit the model.
        """
        return load_into_runner(self, filename, isinstance(self._train_loop, BaseLoop))
