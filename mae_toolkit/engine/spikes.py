"""Go on after a spike of the loss: from the checkpoint before it, without the batches that led to it."""

import gc
from collections.abc import Callable

from mmengine.config import Config

from mae_toolkit.engine._mmengine import clear_message_hub
from mae_toolkit.engine.hooks.preemption import PreemptionHook
from mae_toolkit.engine.runner import Runner
from mae_toolkit.engine.skips import LossSpike


def train_past_spikes(cfg: Config, build: Callable[[], Runner]) -> Runner:
    """Train; after each spike that :class:`LossSpikeHook` finds, build the run anew from the checkpoint before it.

    It is a resume within the process: weights, optimizer, schedules and logs are those of the checkpoint.

    Args:
        cfg: The config; ``load_from`` and ``resume`` are changed in place.
        build: Builds the runner from the config.

    Returns:
        The runner whose training has ended.
    """
    previous = None
    while True:
        runner = build()
        hook = next((hook for hook in runner.hooks if isinstance(hook, PreemptionHook)), None)
        if hook is not None and previous is not None:
            hook.take_over(previous)  # of a signal that came in the step of the spike
        previous = hook
        try:
            runner.train()
            return runner
        except LossSpike as spike:
            cfg.load_from, cfg.resume = spike.checkpoint, True
            runner.logger.warning(str(spike))
            runner.visualizer.close()
            clear_message_hub(runner.message_hub)
        del runner  # with its data loaders, before others are built
        gc.collect()
