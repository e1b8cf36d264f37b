"""The configs of the runs of a table."""

import copy

from mae_toolkit.config.load import load_config, merge_options
from mae_toolkit.downstream import fit_encoder, set_label_fraction
from mae_toolkit.errors import UserError


class ConfigCache:
    """Configs of an experiment; each file is read once in the life of this object.

    Args:
        experiment (Experiment): What is to be run.
    """

    def __init__(self, experiment):
        self.experiment = experiment
        self._read = {}

    def encoder(self, source):
        """The config of an encoder, without its weights."""
        given = source.encoder
        if given is None:
            return self._encoder_of(source.pretrain, source.pretrain_options)
        return given if isinstance(given, dict) else self._encoder_of(given, {})

    def task(self, task):
        """The config of a task as it is."""
        return self._file(task.config, task.options)

    def pretraining(self, source):
        """The config of an encoder's pretraining."""
        return self._file(source.pretrain, source.pretrain_options)

    def run(self, source, task, share, seed, checkpoint):
        """The config of a run.

        Args:
            source (Source), task (Task): What it combines.
            share (float), seed (int): Of the labels that are trained on; of everything random, the choice of these
                labels included, which is the same for all encoders.
            checkpoint (str | None): Weights of the encoder.
        """
        cfg = copy.deepcopy(self.fitted(source, task, checkpoint))
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
        return set_label_fraction(cfg, share, seed)

    def fitted(self, source, task, checkpoint):
        """A task's config with an encoder in it; not to be changed."""
        key = source.name, task.name, checkpoint
        if key not in self._read:
            options = self.experiment.options(source, task)
            cfg = fit_encoder(self._file(task.config, options), copy.deepcopy(self.encoder(source)), checkpoint)
            merge_options(cfg, options)  # those of the encoder have been replaced with it
            self._read[key] = cfg
        return self._read[key]

    def _encoder_of(self, path, options):
        encoder = self._file(path, options).model.get('encoder')
        if encoder is None:
            raise UserError(
                f'{path} has no model.encoder: name a config of pretraining, or write the encoder as a dict.'
            )
        return encoder

    def _file(self, path, options):
        key = path, repr(sorted(options.items()))
        if key not in self._read:
            self._read[key] = load_config(path, dict(options))
        return self._read[key]
