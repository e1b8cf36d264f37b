"""The runner: MMEngine's, with safe loading, quiet on the console, and on CPUs in several processes."""

import functools
import hashlib
import logging
from pathlib import Path

import torch
from mmengine.dist import broadcast_object_list, master_only
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner

from mae_toolkit.checkpoints import files as checkpoint_files
from mae_toolkit.datasets.reproducible import ReportingCollate, ReproducibleDataset
from mae_toolkit.datasets.training_classes import use_training_classes
from mae_toolkit.engine.code_guard import refuse_code_in_files
from mae_toolkit.engine.data_check import check_run_data
from mae_toolkit.engine.data_loading import begins_epochs_anew, class_of, describe_place, prepare_dataloader
from mae_toolkit.engine.distributed import init_distributed, unwrap, wrapper_cfg
from mae_toolkit.engine.hooks.broken_images import BrokenImagesHook
from mae_toolkit.engine.resume_checks import check_average, check_message_hub, check_optimizer, check_saved_schedules
from mae_toolkit.engine.resumed_seed import with_saved_seed
from mae_toolkit.engine.schedules import TrainingLength, check_schedules
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.evaluation.coco import repair_annotations
from mae_toolkit.printing import escape_unprintable
from mae_toolkit.registry import DATASETS, HOOKS

# MMEngine's remarks about itself, of which no user can mend anything; they stay in the log file.
NOISE = (
    'Failed to search registry with scope',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'has no metainfo',
    'The prefix is not set in metric class',
)

# Hooks that every run has, by the name under which a config changes them, or leaves one out by None.
ALWAYS = {
    'iteration_seed': {'type': 'mae_toolkit.IterationSeedHook'},
    'broken_images': {'type': 'mae_toolkit.BrokenImagesHook'},
    'validation_check': {'type': 'mae_toolkit.ValidationCheckHook'},
}


def _told(name):
    """A method of MMEngine's runner that builds something, with one sentence for what the config has wrong in it."""
    method = getattr(MMEngineRunner, name)

    @functools.wraps(method)
    def build(self, *args, **kwargs):
        with wrap_build_error(f'The {name.split("_", 1)[1]}'):
            return method(self, *args, **kwargs)

    return build


class Runner(MMEngineRunner):
    """Runs training, validation and test from a config.

    It differs from MMEngine's in that

    - checkpoints are loaded without executing code from them and refused where they do not fit the model;
    - ``resume='auto'`` continues from the newest checkpoint of the work directory that is whole, whatever weights
      (``load_from``) the run once began with; so does ``resume=True`` without ``load_from``;
    - the console shows warnings and errors alone, while the log file keeps everything;
    - several processes work on CPUs too;
    - the data is looked at before a dataset is built, see :mod:`mae_toolkit.datasets.checks`;
    - validation and test need no evaluator;
    - ``env_cfg=dict(num_threads=…)`` sets torch's threads.
    """

    _trains = False  # whether what is built now is for training

    build_model = _told('build_model')
    build_optim_wrapper = _told('build_optim_wrapper')
    build_visualizer = _told('build_visualizer')
    build_log_processor = _told('build_log_processor')
    build_val_loop = _told('build_val_loop')
    build_test_loop = _told('build_test_loop')
    register_custom_hooks = _told('register_custom_hooks')
    set_randomness = _told('set_randomness')

    def build_train_loop(self, loop):
        """Build the loop, unless the model has other classes than the labels.

        MMEngine's loop over epochs begins an epoch anew when it resumes within one; ours goes on, and takes its place.
        """
        if isinstance(loop, dict) and begins_epochs_anew(loop):
            loop = {key: value for key, value in loop.items() if key != 'by_epoch'}
            loop['type'] = 'mae_toolkit.EpochTrainLoop'
        self._trains = True
        try:
            with wrap_build_error('The train_loop'):
                built = super().build_train_loop(loop)
        finally:
            self._trains = False
        dataset, known = built.dataloader.dataset, getattr(unwrap(self.model), 'num_classes', None)
        classes = dataset.metainfo['classes'] if hasattr(dataset, 'labels') else None
        if classes is not None and known not in (None, len(classes)):
            raise UserError(
                f'The model has num_classes={known}, and the images of {dataset.root} are of {len(classes)} classes '
                f'({", ".join(classes[:5])}{", …" if len(classes) > 5 else ""}): set model.num_classes={len(classes)}.'
            )
        return built

    def build_param_scheduler(self, scheduler):
        """Build the schedules, after a look at what they do over the whole training."""
        configs = [
            part for part in ([scheduler] if isinstance(scheduler, dict) else scheduler or []) if isinstance(part, dict)
        ]
        with wrap_build_error('The param_scheduler'):
            if configs and all('type' in part for part in configs) and hasattr(self.optim_wrapper, 'optimizer'):
                for doubt in check_schedules(configs, self.optim_wrapper.optimizer.defaults, self._length()):
                    self.logger.warning(doubt)
            return super().build_param_scheduler(scheduler)

    def _length(self):
        by_epoch = isinstance(self.train_loop, EpochBasedTrainLoop)
        return TrainingLength(self.max_iters, len(self.train_dataloader), self.max_epochs if by_epoch else None)

    def __init__(self, *args, **kwargs):
        refuse_code_in_files()
        for stage in ('val', 'test'):
            if kwargs.get(f'{stage}_dataloader') is None:  # MMEngine wants all three, or none
                kwargs[f'{stage}_cfg'] = kwargs[f'{stage}_evaluator'] = None
            else:
                train = kwargs.get('train_dataloader')
                kwargs[f'{stage}_dataloader'] = use_training_classes(kwargs[f'{stage}_dataloader'], train)
                if kwargs.get(f'{stage}_evaluator') is None:
                    kwargs[f'{stage}_evaluator'] = []
        if kwargs.get('experiment_name') is None and 'work_dir' in kwargs:
            kwargs['experiment_name'] = _experiment_name(kwargs['work_dir'], kwargs.get('cfg'))
        if kwargs.get('resume'):
            kwargs['randomness'] = with_saved_seed(kwargs)
        super().__init__(*args, **kwargs)

    def train(self):
        """Look at the data, then train; a fault of the test data is no obstacle."""
        check_run_data(self.cfg, ('train', 'val', 'test'), Path(self.work_dir), self.logger, tolerated=('test',))
        return super().train()

    def test(self):
        """Look at the data, then test."""
        check_run_data(self.cfg, ('test',), Path(self._log_dir), self.logger)
        return super().test()

    def build_evaluator(self, evaluator):
        """Build the evaluator; COCO's annotations in it are repaired where pycocotools would miscount them."""
        built = super().build_evaluator(evaluator)
        repair_annotations(built, self.logger)
        return built

    def setup_env(self, env_cfg):
        """Join the other processes, if any, before MMEngine would."""
        settings = env_cfg.get('dist_cfg', {})
        backend = settings.get('backend') if torch.cuda.is_available() else None
        init_distributed(self.launcher, backend, settings.get('timeout', 1800))
        if env_cfg.get('num_threads'):
            torch.set_num_threads(env_cfg['num_threads'])
        super().setup_env(env_cfg)

    @master_only
    def dump_config(self):
        """Write the config into the work directory, or, of a test in that of a training, beside the log."""
        folder = Path(self.work_dir)
        if not self._resume and any(checkpoint_files.NAME.fullmatch(path.name) for path in folder.glob('*.pth')):
            folder = Path(self._log_dir)
        self.cfg.dump(folder / Path(self.cfg.filename or f'{self.timestamp}.py').name)

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        """Everything to the file; to the console, where a progress bar is drawn, warnings and what is marked for users.

        A record is marked by ``logger.info(..., extra={'for_users': True})``.
        """
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            escape_unprintable(getattr(handler, 'stream', None))  # names of files may be no UTF-8
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(functools.partial(_is_for_users, max(handler.level, logging.WARNING)))
        return logger

    def register_hooks(self, default_hooks=None, custom_hooks=None):
        """Register all hooks; one that every run has is no default where the config has it among its custom hooks."""
        default_hooks = dict(default_hooks or {})
        custom = [class_of(HOOKS, hook) for hook in custom_hooks or ()]
        for name, hook in ALWAYS.items():
            if class_of(HOOKS, hook) in custom:
                default_hooks.setdefault(name, None)
        super().register_hooks(default_hooks, custom_hooks)

    def register_default_hooks(self, hooks=None):
        """Register MMEngine's hooks and those of the config; one that is None is left out, whatever its name."""
        theirs = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        asked = ALWAYS | dict(hooks or {})
        kept = {name: hook for name, hook in asked.items() if hook is not None or name in theirs}
        with wrap_build_error('The default_hooks'):
            super().register_default_hooks(kept)

    def call_hook(self, fn_name, **kwargs):
        """Call all hooks; a TypeError in one keeps its stack trace, which MMEngine cuts off."""
        for hook in self._hooks:
            if hasattr(hook, fn_name):
                getattr(hook, fn_name)(self, **kwargs)

    def build_dataloader(self, dataloader, seed=None, diff_rank_seed=False):
        """Build a loader whose order and augmentation follow from the run's seed.

        MMEngine gives samplers a seed only without ``diff_rank_seed``, and datasets none. A dataset of another library
        draws from global generators, and stops at a broken file; see :class:`ReproducibleDataset`.
        """
        place = describe_place(dataloader)
        if isinstance(dataloader, dict):
            shared = self._randomness_cfg.get('seed')
            if shared is None and seed is not None:
                shared = seed - self.rank if diff_rank_seed else seed  # MMEngine has added the rank
            dataloader = prepare_dataloader(dataloader, shared, self._trains, self.logger)
        with wrap_build_error(f'The dataloader{place}'):
            loader = super().build_dataloader(dataloader, seed, diff_rank_seed)
        if isinstance(dataloader, dict) and class_of(DATASETS, dataloader['dataset']) is ReproducibleDataset:
            report = any(isinstance(hook, BrokenImagesHook) for hook in self.hooks)
            loader.collate_fn = ReportingCollate(loader.collate_fn, report)
        return loader

    def wrap_model(self, model_wrapper_cfg, model):
        """Wrap the model for data parallelism on this machine's device."""
        if self.distributed and model_wrapper_cfg is None:
            model_wrapper_cfg = wrapper_cfg()
        return super().wrap_model(model_wrapper_cfg, model)

    def load_or_resume(self):
        """Load or resume as configured; all processes take the checkpoint that the first one finds."""
        search = self._resume == 'auto' or (self._resume and self._load_from is None)
        if search and not self._has_loaded:
            found = [checkpoint_files.newest_checkpoint(self.work_dir)] if self.rank == 0 else [None]
            broadcast_object_list(found)
            if found[0] is None:
                start = f'with the weights of {self._load_from}' if self._load_from else 'anew'
                self.logger.warning(f'No checkpoint to resume from in {self.work_dir}: training starts {start}.')
                self._resume = False
            else:
                self._load_from = str(found[0])
        super().load_or_resume()

    def resume(self, filename, resume_optimizer=True, resume_param_scheduler=True, map_location='cpu'):
        """Continue a run: weights, optimizer, schedulers, counters, logs and what hooks saved."""
        saved = checkpoint_files.load_training(filename, verify=False)  # refuses weights alone
        check_message_hub(filename, saved['message_hub'])
        planned = self.param_schedulers if isinstance(self.param_schedulers, list) else []
        if resume_optimizer:
            check_optimizer(filename, saved['optimizer'], self.optim_wrapper, unwrap(self.model), saved['meta']['iter'])
        if not isinstance(self.param_schedulers, dict):
            check_saved_schedules(filename, saved.get('param_schedulers'), planned)
        ends = _ends(planned)
        try:
            super().resume(filename, resume_optimizer, resume_param_scheduler, 'cpu')
        except (ValueError, KeyError) as error:
            raise UserError(
                f'The optimizer in {filename} does not fit that of the config ({" ".join(str(error).split())}): resume '
                'with the same optimizer and rules of weight decay, or start anew with load_from.'
            ) from error
        for here, there in zip(ends, _ends(self.param_schedulers), strict=True):
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
        # The run may remove the file while it uses the tensors.
        checkpoint = checkpoint_files.load(filename, mmap=False)
        found = (
            checkpoint_files.state_dict_of if self._resume else functools.partial(checkpoint_files.weights_of, filename)
        )
        if not isinstance(checkpoint.get('state_dict'), dict):  # weights alone; hooks look for them there
            checkpoint = {'state_dict': checkpoint}
        checkpoint['state_dict'] = found(checkpoint)
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)  # a text that MMEngine would execute, to compare numbers of GPUs
        model = unwrap(self.model)
        if any(isinstance(hook, EMAHook) for hook in self.hooks):  # which copies the weights
            checkpoint_files.check_fit(filename, checkpoint['state_dict'], model)
            check_average(filename, checkpoint, model)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        state = checkpoint_files.state_dict_of(checkpoint)  # which hooks may have changed
        checkpoint_files.check_fit(filename, state, model)
        model.load_state_dict(state)
        self._has_loaded = True
        self.logger.info(f'Loaded {filename}')
        return checkpoint


def _experiment_name(work_dir, cfg):
    """A name of config and work directory.

    MMEngine adds the second, and runs of one name share their logs: two runs of one config in a process may not.
    """
    stem = Path(getattr(cfg, 'filename', None) or 'run').stem
    return f'{stem}-{hashlib.sha1(str(Path(work_dir).resolve()).encode()).hexdigest()[:8]}'


def _is_for_users(level, record):
    """Whether a record is for the console: of a level or above and no noise, or marked so."""
    if getattr(record, 'for_users', False):
        return True
    return record.levelno >= level and not any(noise in record.getMessage() for noise in NOISE)


def _ends(schedulers):
    """Where the schedules end, in their own steps."""
    return [scheduler.end for scheduler in schedulers] if isinstance(schedulers, list) else []
