"""Plan a pretraining: from a folder, a device, an encoder and weights to a whole config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.config.knobs import Knob, list_knobs
from mae_toolkit.config.load import load_config
from mae_toolkit.datasets.fingerprint import Fingerprint
from mae_toolkit.engine.minutes import time_training
from mae_toolkit.errors import UserError
from mae_toolkit.planning.architectures import EncoderFacts
from mae_toolkit.planning.config_text import ConfigFile, split_options
from mae_toolkit.planning.costs import estimate_costs
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.images import describe_enlargement, plan_images
from mae_toolkit.planning.minutes import TimeLimit, describe_overrun
from mae_toolkit.planning.normalization import describe_unlike
from mae_toolkit.planning.schedule import (
    Speed,
    choose_batch,
    choose_rate,
    choose_workers,
    find_largest_batch,
    find_smallest_batch,
    plan_length,
    plan_minutes,
)
from mae_toolkit.planning.templates import find_template
from mae_toolkit.planning.trials import MOST_MEMORY, StepTimer, StepTrial, time_loading, try_batches

LEAST_BATCH, MOST_BATCH = {'cuda': 32, 'cpu': 8}, {'cuda': 1024, 'cpu': 64}
# Settings of the templates, and why they are what they are.
RECIPE = {
    'ratio': 'of the published recipe',
    'base_lr': 'of the published recipe, for 256 images per step; it goes with the root of the batch size',
}
# Settings of the templates for continued pretraining, and why they are what they are.
CONTINUED = {
    'base_lr': 'of the decoder, chosen by what docs/continue.md measured',
    'encoder_lr': 'share of it for the encoder, which at the full rate would lose what it knows',
    'wait_steps': 'the fresh decoder trains alone at first',
    'norm_eval': 'batch norms keep the statistics of the weights',
}
MOST_SECONDS = {'cuda': 1.0, 'cpu': 1.5}  # per step


@dataclass(frozen=True)
class PretrainingWishes:
    """What the user asked for.

    Attributes:
        folder: The images.
        weights: What the encoder begins with, ``[FORMAT:]FILE[#PART]``.
        channels_rule: How weights of other channels are converted.
        size: Pixels of the crops.
        epochs: Passes over the images.
        limit: The minutes that everything may take.
        labels: Folder of labeled images, by which the encoder is watched.
        options: ``--cfg-options``.
    """

    folder: Path
    weights: str | None = None
    channels_rule: str | None = None
    size: int | tuple[int, int] | None = None
    epochs: int | None = None
    limit: TimeLimit | None = None
    labels: str | None = None
    options: Mapping[str, Any] | None = None


class PretrainingPlan:
    """The settings of a pretraining, each with its reason, and the config that they make.

    Args:
        fingerprint: What is in the folder of the images.
        encoder: The architecture.
        device: What trains.
        wishes: What the user asked for.
        config: Where the config is written.
        header: Comment at its top.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        encoder: EncoderFacts,
        device: Device,
        wishes: PretrainingWishes,
        config: Path,
        header: str,
    ) -> None:
        self.fingerprint, self.encoder, self.device, self.wishes = fingerprint, encoder, device, wishes
        self._template = find_template(encoder.family.name, wishes.weights is not None)
        kept = {f'model.encoder.{name}': value for name, value in encoder.arguments.items()}
        self._wanted, others = split_options(self._template, kept | dict(wishes.options or {}))
        self._file = ConfigFile(config, header, others)
        self._overrun: str | None = None
        self.knobs = {'data_root': Knob(str(wishes.folder.resolve()), 'the folder')} | self._plan_encoder()
        self.knobs |= plan_images(fingerprint, encoder, device, wishes.size, wishes.weights, wishes.channels_rule)

    def write(self) -> None:
        """Write the config with the settings that are known by now."""
        self._file.write(self._template, self.list_settings())

    def try_steps(self) -> None:
        """Try steps on the device, and choose precision, batch size, workers, length and learning rate by them."""
        cfg = self._make_trial()
        (numbers,) = self.fingerprint.dtypes
        timer = StepTimer(cfg, self.device, numbers)
        if 'precision' not in self._wanted:
            self.knobs['precision'] = self._choose_precision(timer)
        step = self._try_batch(timer) if 'batch_size' in self._wanted else self._choose_batch(timer)
        del timer  # and with it the model, whose memory the training needs
        self._plan_training(step, time_loading(cfg))

    def _make_trial(self) -> Config:
        """Make the config of the settings that are known by now, and leave no file of it.

        After an interruption, nobody must resume a trial with settings that were not yet chosen.
        """
        self.write()
        cfg = load_config(self._file.path)
        self._file.path.unlink()
        return cfg

    def count_images(self) -> int:
        """Count the images that are trained on: all but those held out."""
        step = int((self._wanted.get('hold_out') or self.knobs['hold_out']).value)
        return max(1, self.fingerprint.images - ceil(self.fingerprint.images / step))

    def list_settings(self) -> dict[str, Knob]:
        """List the settings that were chosen, by the user or for the user."""
        return self.knobs | self._wanted

    def list_notes(self) -> list[str]:
        """List sentences on what is unusual: small images, or unlike those of the weights, and too few minutes."""
        cfg, found = load_config(self._file.path), self.fingerprint
        crops, normal = cfg.train_dataloader.dataset.pipeline[0], cfg.model.data_preprocessor
        notes = [describe_enlargement(found, self.encoder, crops.size)]
        if self.wishes.weights is not None and not {'mean', 'std'} & self._wanted.keys():
            notes.append(describe_unlike(normal.mean, normal.std, found.mean, found.std))
        return [note for note in (*notes, self._overrun) if note is not None]

    def _plan_encoder(self) -> dict[str, Knob]:
        encoder, wishes = self.encoder, self.wishes
        decoder, millions = encoder.decoder, f'{encoder.parameters / 1e6:.1f} million parameters'
        knobs = {
            'arch': Knob(
                encoder.arch, f'{encoder.family.title} of {millions}, pretrained as in {encoder.family.method}'
            )
        }
        knobs['decoder_dim'] = Knob(decoder.width, f'fits an encoder of {millions}')
        if encoder.levels is None:
            knobs['decoder_depth'] = Knob(decoder.depth, f'fits an encoder of {millions}')
        else:
            knobs['levels'] = Knob(encoder.levels, 'the levels of strides 4 to 32')
        if wishes.weights is not None:
            knobs['weights'] = Knob(wishes.weights, '--from')
        known = list_knobs(self._template, list_runner_keys())
        reasons = RECIPE if wishes.weights is None else CONTINUED
        knobs |= {name: Knob(known[name], why) for name, why in reasons.items() if name in known}
        if wishes.labels is not None:
            knobs['labels'] = Knob(wishes.labels, '--labels: by them the encoder is watched')
        if wishes.channels_rule is not None:
            knobs['channels_rule'] = Knob(wishes.channels_rule, '--channels-rule')
        return knobs

    def _choose_precision(self, timer: StepTimer) -> Knob:
        """Choose bfloat16 where the device multiplies in it, and a step is faster in it."""
        if not self.device.has_bfloat16:
            return Knob('float32', f'{self.device.name} would be slower in bfloat16')
        batch = LEAST_BATCH[self.device.type]
        exact, mixed = timer.time_step(batch, 'float32'), timer.time_step(batch, 'bfloat16')
        if exact is None or mixed is None or mixed.seconds <= exact.seconds:
            ratio = f', {exact.seconds / mixed.seconds:.1f} times as fast' if exact and mixed else ''
            return Knob('bfloat16', f'tried on {self.device.name}{ratio}')
        slower = mixed.seconds / exact.seconds
        return Knob('float32', f'tried on {self.device.name}: bfloat16 takes {slower:.1f} times as long')

    def _choose_batch(self, timer: StepTimer) -> StepTrial:
        largest = find_largest_batch(self.count_images(), self._epochs, self.wishes.weights is not None)
        trials = self._try_batches(timer, largest)
        step, self.knobs['batch_size'] = choose_batch(trials, self.device, self.wishes.limit, largest)
        return step

    def _try_batch(self, timer: StepTimer) -> StepTrial:
        """Time a step of the batch size that the user wants."""
        batch = int(self._wanted['batch_size'].value)
        trial = timer.time_step(batch, self._precision)
        if trial is None:
            raise UserError(f'{self.device.name} has too little memory for batch_size={batch}: use a smaller one.')
        return trial

    @property
    def _precision(self) -> str:
        return str(self.list_settings()['precision'].value)

    @property
    def _epochs(self) -> int | None:
        """Return the passes over the images that the user wants."""
        wanted = self._wanted.get('epochs')
        return self.wishes.epochs if wanted is None else int(wanted.value)

    def _try_batches(self, timer: StepTimer, largest: int) -> list[StepTrial]:
        kind = self.device.type
        least = find_smallest_batch(self.count_images(), LEAST_BATCH[kind])
        most = min(MOST_BATCH[kind], max(least, largest))
        memory = MOST_MEMORY * self.device.memory if self.device.is_gpu else float('inf')
        time_step = partial(timer.time_step, precision=self._precision)
        return list(try_batches(time_step, least, most, MOST_SECONDS[kind], memory))

    def _plan_training(self, step: StepTrial, loading: float) -> None:
        wishes, has_weights = self.wishes, self.wishes.weights is not None
        self.knobs['workers'] = choose_workers(step, loading, self.device)
        speed = Speed(step, loading, int(self.knobs['workers'].value), not self.device.is_gpu)
        self.knobs |= plan_length(self.count_images(), speed, self._epochs, has_weights)
        if wishes.limit is not None:
            fitted = self._plan_minutes(wishes.limit)
            self.knobs = {name: knob for name, knob in self.knobs.items() if name not in fitted} | fitted
        if not has_weights:
            self._plan_rate()

    def _plan_rate(self) -> None:
        """Raise the learning rate of a short training from scratch."""
        settings = {name: knob.value for name, knob in self.list_settings().items()}
        batch = int(settings['batch_size'])
        steps = int(settings.get('steps') or settings['epochs'] * self.count_images() / batch)
        rate = choose_rate(float(self.knobs['base_lr'].value), batch, max(1, steps))
        if rate is not None:
            self.knobs['base_lr'] = rate

    def _plan_minutes(self, limit: TimeLimit) -> dict[str, Knob]:
        """Time the training that the settings so far make, and fit it to the minutes."""
        cfg = self._make_trial()
        timed = time_training(cfg, self._file.path.parent, limit.count_minutes_left())
        trained = self.count_images()
        costs = estimate_costs(cfg, timed, max(1, self.fingerprint.images - trained), trained)
        self._overrun = describe_overrun(limit, costs.least)
        batch = int(self.list_settings()['batch_size'].value)
        return plan_minutes(trained, batch, limit, costs, self.wishes.weights is not None)
