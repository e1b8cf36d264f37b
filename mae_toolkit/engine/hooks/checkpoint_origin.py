"""Compare a run with what the checkpoint that it loads says of its own training."""

from mmengine.config import Config
from mmengine.hooks import Hook

from mae_toolkit.config.difference import warn_of_differences
from mae_toolkit.engine._mmengine import get_load_from, get_resume
from mae_toolkit.engine.classes import check_classes


class CheckpointOriginHook(Hook):
    """Refuse a checkpoint of other classes, and warn where its config differs, before its weights are used.

    It acts where a run is tested or resumed. A training that merely begins with the weights of another (``load_from``)
    may differ from it in everything.

    Args:
        cfg: The config as it was given.
        split: The images that are tested on, ``'test'`` or ``'val'``; None in training.
    """

    def __init__(self, cfg: Config, split: str | None = None):
        self.cfg, self.split = cfg, split

    def after_load_checkpoint(self, runner, checkpoint):
        """Compare."""
        if self.split is None and not get_resume(runner):
            return
        loader = runner.train_dataloader if self.split is None else runner.test_dataloader
        about = getattr(loader.dataset, 'metainfo', None)
        classes = about.get('classes') if isinstance(about, dict) else None
        warn_of_differences(get_load_from(runner), checkpoint, self.cfg, self.split or 'resume')
        check_classes(get_load_from(runner), checkpoint, classes, 'the dataset')
