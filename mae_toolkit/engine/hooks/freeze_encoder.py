"""Let a pretrained encoder wait until the fresh parts of a model have learned to use it."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine._mmengine import get_accumulative_counts
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.layer_decay import find_backbone
from mae_toolkit.registry import HOOKS

NEW = ('mask_token',)  # last names of parameters that a pretrained network does not have


@HOOKS.register_module()
class FreezeEncoderHook(Hook):
    """Hook that freezes or slows the encoder for the first steps, while a fresh decoder or head trains.

    The gradients that a random decoder sends into a pretrained encoder say nothing about images. ``steps=100`` keeps
    the encoder as it was loaded during the first 100 steps of the optimizer: it computes no gradients, its batch norms
    are in evaluation mode, and the optimizer neither decays its parameters nor holds a state for them. Afterward it
    trains as the config says. Only its mask token trains from the start, as a pretrained network has none.

    ``lr_scale`` above 0 lets it train from the start, with that share of each update of the optimizer. As updates are
    proportional to the learning rate, this is the encoder's learning rate times ``lr_scale``, whatever the groups of
    parameters and the schedules are; it takes a copy of the encoder's parameters during each step.

    Everything follows from the number of the iteration, so that a resumed run continues where it was. Under data
    parallelism, whose wrapper waits for a gradient of every parameter, gradients are computed and set to zero.

    Args:
        steps: Steps of the optimizer during which the encoder waits; each takes as many iterations as gradients are
            accumulated over.
        lr_scale: Factor of the encoder's learning rate in these steps, 0 to 1; 0 freezes it.

    Raises:
        UserError: If a number is out of range, or the model has neither an encoder nor a backbone.
    """

    priority = 'HIGH'  # before MomentumHook, whose teachers follow what this hook leaves of a step

    def __init__(self, steps: int, lr_scale: float = 0.0) -> None:
        check_ranges('FreezeEncoderHook: ', dict(steps=steps, lr_scale=lr_scale), HOOK)
        self.steps, self.lr_scale = steps, lr_scale
        self._waits = False
        self._parameters: list[Tensor] = []
        self._norms: list[_BatchNorm] = []
        self._before: list[Tensor] = []
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Find the encoder, say how long it waits, and register hooks on the optimizer's steps."""
        model = unwrap(runner.model)
        _, encoder = find_backbone(model)
        named = [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]
        self._parameters = [p for name, p in named if name.rsplit('.', 1)[-1] not in NEW]
        self._norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
        self._encoder, self._is_wrapped = encoder, is_model_wrapper(runner.model)
        self._iterations = self.count_iterations(runner)
        if runner.iter >= self._iterations:
            return
        self._describe(runner)
        optimizer = runner.optim_wrapper.optimizer
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]

    def count_iterations(self, runner: Runner) -> int:
        """Return for how many iterations the encoder of a run waits."""
        return self.steps * get_accumulative_counts(runner.optim_wrapper)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Freeze or release the encoder, as the number of the iteration says."""
        waits = runner.iter < self._iterations
        if waits != self._waits:
            self._set(waits)
            if not waits:
                runner.logger.info(f'FreezeEncoderHook: the encoder trains from iteration {runner.iter + 1} on.')
        if waits and not self.lr_scale:
            for norm in self._norms:  # each time, as loops set the mode of the model at epochs and after validations
                norm.eval()

    def after_train(self, runner: Runner) -> None:
        """Release the encoder."""
        if self._waits:
            self._set(False)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _describe(self, runner: Runner) -> None:
        count = sum(p.numel() for p in self._parameters)
        how = f'at {self.lr_scale:g} of its learning rate' if self.lr_scale else 'frozen'
        runner.logger.info(
            f'FreezeEncoderHook: {count:,} parameters of the encoder are {how} for the first {self.steps} steps.'
        )
        if self._iterations >= runner.max_iters:
            runner.logger.warning(
                f'FreezeEncoderHook: the encoder waits for {self.steps} steps ({self._iterations} iterations), and the '
                f'training has {runner.max_iters} iterations: the encoder never trains as its config says; set fewer '
                'steps.'
            )

    def _set(self, waits: bool) -> None:
        self._waits = waits
        if self.lr_scale:
            return
        if not self._is_wrapped:
            for parameter in self._parameters:
                parameter.requires_grad_(not waits)
        elif waits:
            self._handles += [p.register_hook(torch.zeros_like) for p in self._parameters]
        else:
            for handle in self._handles:  # those of the optimizer have nothing left to do, either
                handle.remove()
        if not waits:
            self._encoder.train(self._encoder.training)  # which knows the norms that stay in evaluation mode

    @torch.no_grad()
    def _before_step(self) -> None:
        """Leave frozen parameters out of a step, or keep what slowed ones were before it."""
        if self._waits and self.lr_scale:
            self._before = [parameter.detach().clone() for parameter in self._parameters]
        elif self._waits:
            for parameter in self._parameters:
                parameter.grad = None  # an optimizer leaves parameters without gradient as they are

    @torch.no_grad()
    def _after_step(self) -> None:
        """Take back all but a share of the update of slowed parameters."""
        before, self._before = self._before, []
        for parameter, old in zip(self._parameters, before, strict=False):  # no old one where nothing is slowed
            parameter.lerp_(old, 1 - self.lr_scale)
