"""Train a few steps on this machine, to set a measurement beside the estimate."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from mmengine.config import Config

from mae_toolkit.models.build import build_model
from mae_toolkit.models.compile import compile_parts
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
    try:
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


def compare(plan: dict[str, Any], measured: dict[str, Any], peak: float) -> str:
    """Write the estimate for one device beside what was measured, and how far it is off.

    Args:
        plan: What :func:`~mae_toolkit.planning.cluster.plan.make_plan` returned for one device.
        measured: What :func:`measure_step` returned.
        peak: FLOP/s of the device at best.
    """
    if 'error' in measured:
        return f'measured: {measured["error"]}'
    speed = measured['images_per_second']
    share = 100 * speed * plan['gflop_per_image'] * 1e9 / peak
    rows = [
        ('images/s', plan['images_per_second'], speed),
        ('step ms', plan['step']['total'] * 1e3, measured['seconds'] * 1e3),
        ('% of peak', 100 * plan['share_of_peak'], share),
    ]
    if measured['memory'] is not None:
        rows.append(('memory GB', plan['memory']['total'], measured['memory'] / 1e9))
    lines = [f'{"":12}{"estimated":>12}{"measured":>12}{"off by":>9}']
    lines += [f'{name:12}{a:>12.4g}{b:>12.4g}{100 * (a / b - 1):>+8.0f}%' for name, a, b in rows]
    return '\n'.join(lines)
