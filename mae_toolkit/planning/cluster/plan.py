"""Plan a pretraining on GPUs: memory, images per second, days, cost, traffic and learning rate."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from mmengine.config import Config

from mae_toolkit.errors import UserError
from mae_toolkit.planning.cluster.counted import USABLE, CountedTraining
from mae_toolkit.planning.cluster.failures import plan_checkpoints
from mae_toolkit.planning.cluster.rates import Rates
from mae_toolkit.planning.cluster.settings import Settings

SCALES = (1, 8, 64, 512, 4096)
GB = 1e9


def make_plan(counted: CountedTraining, settings: Settings, rates: Rates) -> dict[str, Any]:
    """Plan a training.

    Args:
        counted: The training, whose step is counted.
        settings: What it is planned for.
        rates: What a GPU reaches.

    Returns:
        Plain values by name, for JSON and for :func:`~mae_toolkit.planning.cluster.report.report`.

    Raises:
        UserError: If the batch does not fit into the memory of a GPU.
    """
    memory = counted.memory(settings)
    largest = counted.largest_batch(settings)
    recomputing = _recompute(counted)
    spared = None if recomputing is None else recomputing.memory(settings).total
    if memory.total > settings.memory * USABLE:
        raise _no_room_error(counted, settings, memory.total, largest, spared)
    step = counted.time_step(settings, rates)
    speed = settings.batch * settings.gpus / step.total
    total = settings.batch * settings.gpus * counted.accumulated
    iterations = settings.images // (settings.batch * settings.gpus)
    seconds = settings.epochs * settings.images / speed
    sent, messages = counted.traffic(settings, settings.gpus)
    save = counted.sizes.checkpoint / settings.disk
    failures = plan_checkpoints(save, settings.restart, settings.gpus, settings.gpu_hours)
    hours = seconds / 3600 / (1 - failures.lost)
    return {
        'device': rates.name,
        'gpus': settings.gpus,
        'engine': settings.engine,
        'dtype': str(settings.dtype).removeprefix('torch.'),
        'compiled': settings.compiled,
        'size': list(counted.size),
        'batch': settings.batch,
        'total_batch': total,
        'parameters': counted.sizes.parameters,
        'gflop_per_image': counted.flops_per_image() / 1e9,
        'counted_on_fake_tensors': counted.is_fake,
        'memory': {name: value / GB for name, value in asdict(memory).items()} | {'total': memory.total / GB},
        'memory_with_cp': spared and spared / GB,
        'memory_of_gpu': settings.memory / GB,
        'usable': USABLE,
        'largest_batch': largest,
        'largest_batch_with_cp': recomputing and recomputing.largest_batch(settings),
        'step': asdict(step) | {'total': step.total},
        'images_per_second': speed,
        'share_of_peak': speed / settings.gpus * counted.flops_per_image() / rates.peak,
        'iterations_per_epoch': iterations,
        'epochs': settings.epochs,
        'images': settings.images,
        'days': hours / 24,
        'gpu_hours': hours * settings.gpus,
        'cost': settings.price and hours * settings.gpus * settings.price,
        'learning_rate': scale_learning_rate(counted.cfg, total),
        'traffic': {'sent_gb': sent / GB, 'messages': messages},
        'scaling': [scale(counted, settings, rates, gpus) for gpus in SCALES],
        'reads': {'files_per_second': speed, 'bytes_per_second': settings.image_bytes * speed},
        'checkpoint': {'bytes': counted.sizes.checkpoint, 'seconds': save, 'every_seconds': failures.interval},
        'failures': {'hours_between': failures.hours_between, 'lost': failures.lost},
        'assumed': asdict(rates) | {'efficiency': settings.efficiency, 'network': settings.network.between},
    }


def scale(counted: CountedTraining, settings: Settings, rates: Rates, gpus: int) -> dict[str, Any]:
    """Return how a number of GPUs does, with the batch of a GPU kept (weak) and with that of all kept (strong)."""
    one = counted.time_step(settings, rates, 1)
    weak = counted.time_step(settings, rates, gpus)
    row: dict[str, Any] = {
        'gpus': gpus,
        'weak': {
            'total_batch': settings.batch * gpus,
            'images_per_second': settings.batch * gpus / weak.total,
            'efficiency': one.total / weak.total,
            'exposed': weak.exposed,
        },
        'strong': None,
    }
    batch, rest = divmod(settings.batch * settings.gpus, gpus)
    if batch and not rest and counted.memory(replace(settings, gpus=gpus), batch).total <= settings.memory * USABLE:
        strong = counted.time_step(settings, rates, gpus, batch)
        speed = batch * gpus / strong.total
        row['strong'] = {
            'batch': batch,
            'images_per_second': speed,
            'days': settings.epochs * settings.images / speed / 86400,
            'exposed': strong.exposed,
        }
    return row


def scale_learning_rate(cfg: Config, total: int) -> dict[str, float | None]:
    """Return the learning rate of a config, the batch for which it is, and the rate for another batch."""
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    lr = cfg.optim_wrapper.optimizer.lr
    return {'configured': lr, 'for_batch': base, 'scaled': base and lr * total / base}


def _recompute(counted: CountedTraining) -> CountedTraining | None:
    """Count the same training with ``with_cp``; None if the config has it, or it would have to run for real."""
    if counted.cfg.model.encoder.get('with_cp') or not counted.is_fake:
        return None
    return CountedTraining(counted.cfg, counted.dtype, counted.size, True)


def _no_room_error(
    counted: CountedTraining, settings: Settings, needed: float, largest: int, spared: float | None
) -> UserError:
    room = settings.memory * USABLE
    remedies = [f'--batch {largest}'] if largest else []
    if spared and spared <= room:
        remedies.append(f'model.encoder.with_cp=True ({spared / GB:.1f} GB)')
    if settings.engine == 'ddp' and settings.gpus > 1:
        sharded = counted.memory(replace(settings, engine='fsdp2')).total
        remedies += [f'--engine fsdp2 ({sharded / GB:.1f} GB)'] if sharded <= room else []
    remedies.append('a GPU with more memory' if not remedies else 'more GPUs with fewer images each')
    return UserError(
        f'{settings.batch} images per GPU need {needed / GB:.1f} GB, but of {settings.memory / GB:.0f} GB only '
        f'{room / GB:.1f} GB can be used: try {", or ".join(remedies)}.'
    )
