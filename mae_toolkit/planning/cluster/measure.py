"""Train a few steps on this machine, to set a measurement beside the estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from mmengine.config import Config

from mae_toolkit.models.build import build_model
from mae_toolkit.models.compile import compile_parts
from mae_toolkit.planning.cluster.counted import CountedTraining
from mae_toolkit.planning.cluster.rates import Rates
from mae_toolkit.planning.cluster.settings import Settings
from mae_toolkit.planning.cluster.sizes import build_optimizer
from mae_toolkit.planning.cluster.step import make_autocast

WARM_UP, STEPS = 3, 20
MOST_SECONDS = 30.0  # of the steps that are timed


def measure_step(
    cfg: Config,
    batch: int,
    dtype: torch.dtype,
    size: tuple[int, int],
    device: torch.device,
    regions: str | None = None,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train on random images, and measure the time of a step and the memory.

    Args:
        cfg: A config of pretraining.
        batch: Images per step.
        dtype: Type of autocast. float16 is not scaled: the gradients mean nothing here.
        size: Height and width of the images.
        device: A GPU or the CPU.
        regions: What is compiled, see :func:`~mae_toolkit.models.compile.compile_parts`; nothing if None.
        steps: Steps that are timed at most.

    Returns:
        Median ``seconds`` of a step, ``images_per_second``, ``memory``, the peak in bytes of all that torch allocated
        (None on a CPU), and ``compile_seconds`` of the first step; only ``error`` if the GPU's memory is too small.
    """
    tries = (cfg.get('env_cfg') or {}).get('cudnn_benchmark')  # as in a run of this config
    try:
        with torch.backends.cudnn.flags(benchmark=True) if tries and device.type == 'cuda' else nullcontext():
            return _measure(cfg, batch, dtype, size, device, regions, steps)
    except torch.OutOfMemoryError as error:
        return {'error': ' '.join(str(error).split()[:20])}
    finally:
        if device.type == 'cuda':
            torch.cuda.empty_cache()


def _measure(
    cfg: Config,
    batch: int,
    dtype: torch.dtype,
    size: tuple[int, int],
    device: torch.device,
    regions: str | None,
    steps: int,
) -> dict[str, Any]:
    is_gpu = device.type == 'cuda'
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    model: Any = build_model(cfg).to(device).train()
    optimizer = build_optimizer(model, cfg)
    imgs = torch.randn(batch, model.encoder.in_chans, *size, device=device)
    if regions:
        compile_parts(model, regions)

    def step() -> None:
        with make_autocast(device.type, dtype):
            losses = model(imgs, mode='loss')
        loss: Any = sum(value for name, value in losses.items() if name.startswith('loss'))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if is_gpu:
            torch.cuda.synchronize(device)

    times, begin = [], time.perf_counter()
    for _ in range(WARM_UP if is_gpu or regions else 1):
        step()
        times.append(time.perf_counter() - begin)
    first, begun = times[0], time.perf_counter()
    times = []
    while len(times) < steps and (len(times) < 3 or time.perf_counter() - begun < MOST_SECONDS):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    seconds = median(times)
    return {
        'seconds': seconds,
        'images_per_second': batch / seconds,
        'memory': torch.cuda.max_memory_allocated(device) if is_gpu else None,
        'compile_seconds': first,
        'steps': len(times),
    }


def compare(
    counted: CountedTraining, settings: Settings, rates: Mapping[str, Rates], measured: Mapping[str, Any]
) -> str:
    """Write estimates for one device beside what was measured, and how far they are off.

    Args:
        counted: The training.
        settings: What it is planned for; only one device is compared.
        rates: The rates from which the estimates follow, by where they are from.
        measured: What :func:`measure_step` returned.
    """
    if 'error' in measured:
        return f'measured: {measured["error"]}'
    alone = replace(settings, gpus=1)
    lines = [f'{"":22}{"images/s":>10}{"off by":>8}{"step ms":>10}{"% of peak":>11}{"memory GB":>11}{"off by":>8}']
    memory, held = counted.memory(alone).total / 1e9, measured['memory'] and measured['memory'] / 1e9
    peak = next(iter(rates.values())).peak
    rows = {f'from {name}': counted.time_step(alone, each).total for name, each in rates.items()}
    for name, seconds in (rows | {'measured': measured['seconds']}).items():
        speed = settings.batch / seconds
        share = 100 * speed * counted.flops_per_image() / peak
        is_estimate = name in rows
        off = f'{100 * (measured["seconds"] / seconds - 1):+.0f}%' if is_estimate else ''
        far = f'{100 * (memory / held - 1):+.0f}%' if is_estimate and held else ''
        size = memory if is_estimate else held
        cells = f'{speed:>10.1f}{off:>8}{1e3 * seconds:>10.1f}{share:>11.1f}'
        lines.append(f'{name:22}{cells}{"-" if size is None else format(size, ".1f"):>11}{far:>8}')
    return '\n'.join(lines)
