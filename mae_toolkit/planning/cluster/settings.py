"""What a plan is made for, and what of it the config says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config

from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.errors import UserError
from mae_toolkit.planning.cluster.failures import HOURS_BETWEEN_FAILURES
from mae_toolkit.planning.cluster.traffic import Network

ENGINES = ('ddp', 'fsdp2')
TYPES = {'AmpOptimWrapper': 'float16', 'AutocastOptimWrapper': 'bfloat16'}  # and what they compute in by default


@dataclass(frozen=True)
class Settings:
    """What a plan is made for, beside the config.

    Attributes:
        gpus: Number of GPUs.
        batch: Images per GPU and step.
        dtype: Type of autocast.
        memory: Bytes of memory of a GPU.
        network: How the GPUs are connected.
        engine: ``'ddp'`` or ``'fsdp2'``.
        compiled: Whether encoder and decoder are compiled.
        efficiency: Share of the peak that a step reaches, in place of the model of kernels; None for that.
        images: Images of an epoch.
        epochs: Length of the training.
        price: Price of a GPU hour; None for no cost.
        overlap: Whether gradients are sent while the backward pass computes.
        data_rate: Images per second that the data loader of a GPU gives; None for as many as are wanted.
        image_bytes: Mean bytes of an image file.
        disk: Bytes per second to the storage of checkpoints.
        restart: Seconds from a failure to the first new step.
        gpu_hours: Mean hours between two failures of a GPU with its part of the node.
    """

    gpus: int
    batch: int
    dtype: torch.dtype
    memory: float
    network: Network
    engine: str = 'ddp'
    compiled: bool = False
    efficiency: float | None = None
    images: int = 1_281_167
    epochs: float = 800
    price: float | None = None
    overlap: bool = True
    data_rate: float | None = None
    image_bytes: float = 110_000.0
    disk: float = 2e9
    restart: float = 600.0
    gpu_hours: float = HOURS_BETWEEN_FAILURES

    def __post_init__(self) -> None:
        """Refuse a share of the peak that no step reaches."""
        share = self.efficiency
        if share is not None and not 0 < share <= 1:
            raise UserError(
                f'--efficiency {share:g} must be a share of the peak, above 0 and at most 1: 65 % are 0.65.'
            )


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU.

    Attributes:
        weights: Parameters and buffers, what FSDP2 gathers among them.
        gradients: Gradients.
        states: The optimizer's states.
        averaged: Averages of the weights that a hook keeps.
        activations: The greatest sum of all else that a step allocates.
    """

    weights: float
    gradients: float
    states: float
    averaged: float
    activations: float

    @property
    def total(self) -> float:
        """Bytes of all of it."""
        return self.weights + self.gradients + self.states + self.averaged + self.activations


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step.

    Attributes:
        compute: Forward and backward pass, and the optimizer.
        backward: The backward pass alone.
        data: Loading the batch.
        traffic: Sending, whether hidden or not.
        exposed: Sending that no computation hides.
    """

    compute: float
    backward: float
    data: float
    traffic: float
    exposed: float

    @property
    def total(self) -> float:
        """Seconds from one step to the next."""
        return max(self.compute, self.data) + self.exposed


def find_size(cfg: Config) -> tuple[int, int]:
    """Return height and width of the images that a config trains on: its last crop, or the encoder's size, or 224."""
    encoder = cfg.model.encoder if isinstance(cfg.get('model'), dict) and 'encoder' in cfg.model else {}
    pipeline = _find_pipeline(cfg.get('train_dataloader') or {})
    sizes = [step['size'] for step in pipeline if isinstance(step, dict) and 'size' in step]
    height, width = parse_size(sizes[-1] if sizes else encoder.get('img_size', 224))
    return height, width


def _find_pipeline(loader: Any) -> list:
    dataset = loader.get('dataset') or {}
    while isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    return dataset.get('pipeline') or []


def find_dtype(cfg: Config, name: str | None = None) -> torch.dtype:
    """Return the type in which a config trains: that of its optimizer wrapper, or the one that is named."""
    kind = str(cfg.optim_wrapper.get('type', 'OptimWrapper')).rpartition('.')[2]
    found = cfg.optim_wrapper.get('dtype') or TYPES.get(kind, 'float32')
    dtype = getattr(torch, name or found, None)
    if not isinstance(dtype, torch.dtype):
        raise UserError(f'optim_wrapper.dtype={found!r} is no type of torch: name float32, bfloat16 or float16.')
    return dtype


def check_trains(cfg: Config) -> None:
    """Refuse a config that trains nothing, or something else than a masked autoencoder."""
    missing = [key for key in ('model', 'train_dataloader', 'optim_wrapper', 'train_cfg') if not cfg.get(key)]
    if missing:
        raise UserError(f'The config trains nothing: it has no {", ".join(missing)}. Plan a config of pretraining.')
    if 'encoder' not in cfg.model or 'masking' not in cfg.model:
        raise UserError(f'{cfg.model.get("type")} is no masked autoencoder: only pretraining is planned.')
