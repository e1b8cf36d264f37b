"""Loading checkpoints into a runner, from one file or from shards, into a model that is sharded or not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from mae_toolkit.checkpoints import files as checkpoint_files
from mae_toolkit.checkpoints.sharded import is_sharded
from mae_toolkit.checkpoints.source import WeightsSource, find_source
from mae_toolkit.engine import _mmengine
from mae_toolkit.engine.checkpoint_contents import OptimizerTemplates
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.resume_checks import check_average
from mae_toolkit.engine.starting_weights import take_starting_weights


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that was read already.

    Attributes:
        source: Where it was read.
        content: What it holds.
    """

    source: WeightsSource
    content: dict[str, Any]

    def __str__(self) -> str:
        """Return where it was read."""
        return str(self.source)


def load_to_resume(runner: Runner, filename: str) -> LoadedCheckpoint:
    """Load a training checkpoint; of an optimizer's state that is sharded, each process reads its part.

    Args:
        runner: The runner.
        filename: A file, or the folder of a sharded checkpoint.

    Raises:
        UserError: See :func:`~mae_toolkit.checkpoints.files.load_training`.
    """
    source = find_source(filename) if Path(filename).exists() else WeightsSource(Path(filename))
    verify = is_main_process() or not is_sharded(source.path)  # reading all of it once is enough
    # Not mapped into memory: the run may remove the file while it uses the tensors.
    templates = OptimizerTemplates(runner.optim_wrapper)
    return LoadedCheckpoint(source, checkpoint_files.load_training(source.path, verify, templates, mmap=False))


def load_into_runner(runner: Runner, checkpoint: str | LoadedCheckpoint, begins: bool) -> dict[str, Any]:
    """Load the weights of a checkpoint into the model of a runner, and let hooks take what they saved.

    See :func:`~mae_toolkit.engine.starting_weights.take_starting_weights`.

    Args:
        runner: The runner.
        checkpoint: ``[FORMAT:]FILE[#PART]``, or what was read already.
        begins: Whether a training begins with the weights, unless it is resumed.

    Returns:
        All that the checkpoint holds.

    Raises:
        UserError: If loading it would execute code, if it is damaged, or if it does not fit the model.
    """
    if isinstance(checkpoint, LoadedCheckpoint):
        source, content = checkpoint.source, checkpoint.content
    else:
        source = find_source(checkpoint)
        content = checkpoint_files.load(source.path, mmap=False)
    model = unwrap(runner.model)
    if _mmengine.get_resume(runner):
        state: Any = checkpoint_files.extract_state_dict(content)
    else:
        state = take_starting_weights(model, source, content, begins, runner.cfg.get('channels_rule'))
    if not isinstance(content.get('state_dict'), dict):  # only weights; hooks look for them there
        content = {}
    content['state_dict'] = state
    if isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)  # MMEngine would execute this text to compare numbers of GPUs
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):  # which copies the weights
        checkpoint_files.check_fit(source, content['state_dict'], model)
        check_average(str(source), content, model)
    runner.call_hook('after_load_checkpoint', checkpoint=content)
    state = checkpoint_files.extract_state_dict(content)  # hooks may have changed it
    checkpoint_files.check_fit(source, state, model)
    model.load_state_dict(state, strict=False)  # counters of batch norms may be lacking
    _mmengine.mark_loaded(runner)
    runner.logger.info(f'Loaded {source}')
    return content
