"""The part of the runner that knows how a model is spread over processes: data parallelism, or FSDP2."""

from contextlib import nullcontext
from functools import partial
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.model import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mae_toolkit.engine import _mmengine
from mae_toolkit.engine.data_parallel import data_parallel_config
from mae_toolkit.engine.fsdp import FSDP2, whole_model
from mae_toolkit.engine.hooks.freeze_encoder import FreezeEncoderHook
from mae_toolkit.engine.hooks.watch import WatchHook
from mae_toolkit.engine.sharded_optimizer import prepare_optim_wrapper, whole_state
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import MODEL_WRAPPERS, suggest

# Hooks that FSDP2 refuses, and why.
REFUSED: dict[type, str] = {
    EMAHook: 'it averages whole parameters, of which each process holds a part',
    FreezeEncoderHook: 'it sets gradients to zero one by one, and they are summed in blocks',
    WatchHook: 'it measures in one process by the clock, while the others wait for their part in the next step',
}


class EngineRunner(_mmengine.ReplaceableRunner):
    """MMEngine's runner with the engines of this toolkit: ``DataParallel`` (the default) and ``FSDP2``."""

    _build_plain_optim_wrapper = _mmengine.wrap_build_method('build_optim_wrapper')
    _build_plain_val_loop = _mmengine.wrap_build_method('build_val_loop')
    _build_plain_test_loop = _mmengine.wrap_build_method('build_test_loop')

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes, on the device of this one.

        Args:
            model_wrapper_cfg: The engine and its arguments; data parallelism if None, and where it names no type.
            model: The model.
        """
        config = dict(model_wrapper_cfg or {})
        chosen = config.get('type', 'mae_toolkit.DataParallel')
        wrapper = MODEL_WRAPPERS.get(chosen) if isinstance(chosen, str) else chosen
        if wrapper is None:
            names = ['DataParallel', 'FSDP2']
            raise UserError(f'model_wrapper_cfg: there is no engine {chosen!r}{suggest(chosen, names)}')
        if isinstance(wrapper, type) and issubclass(wrapper, FSDP2):
            with wrap_build_error('The model_wrapper_cfg'):
                return self._shard(config, model)
        if not self.distributed:
            return super().wrap_model(None, model)
        if isinstance(wrapper, type) and issubclass(wrapper, DistributedDataParallel):
            config = data_parallel_config(model) | config
        with wrap_build_error('The model_wrapper_cfg'):
            return super().wrap_model(config, model)

    def _shard(self, config: dict[str, Any], model: nn.Module) -> nn.Module:
        """Shard a model; it stays on the CPU until then, as a GPU may not hold the whole of it."""
        if sync_bn := self.cfg.get('sync_bn'):
            model = convert_sync_batchnorm(model, sync_bn)
        return MODEL_WRAPPERS.build(config, default_args=dict(module=model))

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer wrapper; see :func:`prepare_optim_wrapper` for sharded parameters."""
        built = self._build_plain_optim_wrapper(optim_wrapper)
        if isinstance(self.model, FSDP2) and built is not optim_wrapper:
            prepare_optim_wrapper(built, self.model)
        return built

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation, for which each process has the whole model."""
        return self._run_whole(self._build_plain_val_loop(loop))

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test, for which each process has the whole model."""
        return self._run_whole(self._build_plain_test_loop(loop))

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register all hooks, and refuse those that do not go with the engine."""
        super().register_hooks(*args, **kwargs)
        for hook in self.hooks if isinstance(self.model, FSDP2) else ():
            for kind, reason in REFUSED.items():
                if isinstance(hook, kind):
                    raise UserError(
                        f'{type(hook).__name__} does not go with FSDP2: {reason}. Leave it out, or leave '
                        'model_wrapper_cfg out for data parallelism.'
                    )

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint in one file; what is sharded is gathered, and the main process writes it."""
        is_sharded = isinstance(self.model, FSDP2) and kwargs.get('save_optimizer', True)
        with whole_model(self.model), whole_state(self.optim_wrapper.optimizer) if is_sharded else nullcontext():
            super().save_checkpoint(*args, **kwargs)

    def load_or_resume(self) -> None:
        """Load or resume as configured; every process reads the file, and keeps its part of what is sharded."""
        with whole_model(self.model, write_back=True):
            super().load_or_resume()

    def init_model_weights(self) -> None:
        """Draw or load the first weights; all processes begin with those of the first one."""
        with whole_model(self.model, write_back=True):
            super().init_model_weights()

    def _run_whole(self, loop: Any) -> Any:
        if isinstance(self.model, FSDP2):
            loop.run = partial(_run_with, self.model, loop.run)
        return loop


def _run_with(model: nn.Module, run: Any) -> Any:
    with whole_model(model):
        return run()
