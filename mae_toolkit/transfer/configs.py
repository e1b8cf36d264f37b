"""The configs of the runs of a table."""

import copy
from collections.abc import Hashable
from typing import Any

from mmengine.config import Config

from mae_toolkit.config.load import load_config, merge_options
from mae_toolkit.downstream import fit_encoder, set_label_fraction
from mae_toolkit.errors import UserError
from mae_toolkit.transfer.evaluations import make_config
from mae_toolkit.transfer.experiment import EncoderEntry, Experiment
from mae_toolkit.transfer.tasks import Task


class ConfigCache:
    """Configs of an experiment; each file is read once in the life of this object.

    Args:
        experiment: What is to be run.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._read: dict[Hashable, Config] = {}

    def encoder(self, entry: EncoderEntry) -> dict:
        """Return the config of an encoder, without its weights.

        Raises:
            UserError: If the config that an entry names has no encoder.
        """
        if isinstance(entry.encoder, dict):
            return entry.encoder
        cfg = self._pretraining_of(entry)
        encoder = cfg.model.get('encoder') if cfg is not None else None
        if encoder is None:
            raise UserError(
                f'{entry.encoder or entry.pretrain} has no model.encoder: name a config of pretraining, or write the '
                'encoder as a dict.'
            )
        return encoder

    def task(self, task: Task) -> Config:
        """Return the config of a task as it is; an empty one if the encoder is not trained."""
        return Config() if task.frozen else self._file(task.config, task.options)

    def pretraining(self, entry: EncoderEntry) -> Config:
        """Return the config of an encoder's pretraining."""
        return self._file(entry.pretrain or '', entry.pretrain_options)

    def run(self, entry: EncoderEntry, task: Task, label_fraction: float, seed: int, checkpoint: str | None) -> Config:
        """Make the config of a run.

        Args:
            entry: The encoder.
            task: The task.
            label_fraction: Fraction of the labels that are trained on.
            seed: Seed of everything random, the choice of the labeled images included, which is the same for all
                encoders.
            checkpoint: Weights of the encoder.

        Returns:
            The config of a training; of a frozen encoder, the part of one that :func:`~mae_toolkit.apis.evaluate`
            reads.
        """
        if task.frozen:
            return make_config(self.encoder(entry), self._pretraining_of(entry))
        cfg = copy.deepcopy(self._fitted(entry, task, checkpoint))
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
        return set_label_fraction(cfg, label_fraction, seed)

    def _fitted(self, entry: EncoderEntry, task: Task, checkpoint: str | None) -> Config:
        """Put an encoder into a task's config; the result is shared and not to be changed."""
        key = entry.name, task.name, checkpoint
        if key not in self._read:
            options = self.experiment.options(entry, task)
            cfg = fit_encoder(self._file(task.config, options), copy.deepcopy(self.encoder(entry)), checkpoint)
            merge_options(cfg, options)  # those of the encoder have been replaced with it
            self._read[key] = cfg
        return self._read[key]

    def _pretraining_of(self, entry: EncoderEntry) -> Config | None:
        """Return the config of pretraining that says what an encoder is; None if it is written as a dict."""
        if isinstance(entry.encoder, dict):
            return None
        return self.pretraining(entry) if entry.encoder is None else self._file(entry.encoder, {})

    def _file(self, path: str, options: dict[str, Any]) -> Config:
        key = path, repr(sorted(options.items()))
        if key not in self._read:
            self._read[key] = load_config(path, dict(options))
        return self._read[key]
