"""Compare a run with the training that its checkpoint comes from."""

from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.config.difference import refuse_changes, warn_of_differences
from mae_toolkit.engine._mmengine import get_load_from, get_resume
from mae_toolkit.engine.classes import check_classes


class CheckpointOriginHook(Hook):
    """Hook that refuses a checkpoint of other classes, and reports where its config differs, before it is used.

    The hook acts in tests and in resumed trainings. A test only warns of differences, a resumed training refuses those
    that change its results. A training that only starts from the weights of another
    (``load_from``) may differ from it in everything.

    Args:
        cfg: The config as the user gave it.
        split: The split that is tested, ``'test'`` or ``'val'``; None in training.
        allow_changes: Only warn of differences in a resumed training, too.
    """

    def __init__(self, cfg: Config, split: str | None = None, allow_changes: bool = False) -> None:
        self.cfg, self.split, self.allow_changes = cfg, split, allow_changes

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare config and classes with those in the checkpoint.

        Raises:
            UserError: If it cannot be used here.
        """
        if self.split is None and not get_resume(runner):
            return
        loader = runner.train_dataloader if self.split is None else runner.test_dataloader
        metainfo = getattr(loader.dataset, 'metainfo', None)
        classes = metainfo.get('classes') if isinstance(metainfo, dict) else None
        path = str(get_load_from(runner))
        if self.split is None and not self.allow_changes:
            refuse_changes(path, checkpoint, self.cfg)
        else:
            warn_of_differences(path, checkpoint, self.cfg, self.split or 'resume')
        check_classes(path, checkpoint, classes, 'the dataset')
