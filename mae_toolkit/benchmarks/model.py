"""Measure how fast masked autoencoders run, against the machine and against dense encoders."""

from collections.abc import Hashable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from tqdm import tqdm

from mae_toolkit.benchmarks.memory import PeakMemory
from mae_toolkit.benchmarks.model_parts import NAMES, BenchmarkedModel, Part
from mae_toolkit.errors import UserError
from mae_toolkit.flops import count_flops

# Sides of the square matrices that set the machine's rate: the first that takes LONG_ENOUGH seconds, or the last.
MATRIX = {'cpu': (384, 768, 1536, 3072), 'cuda': (8192,)}
LONG_ENOUGH = 0.25


class Row(NamedTuple):
    """Measurements of one part.

    Attributes:
        part: Its name.
        ms: Median time in milliseconds.
        images_per_s: Images per second.
        gflop: Floating-point operations in 1e9, hidden cells not counted where they are not computed.
        gflops: Achieved rate in 1e9 per second.
        share: Achieved rate over that of a large matrix product in the same run.
        memory_gb: Peak memory in 2**30 bytes beyond what was held before (weights and optimizer state): allocated on
            a GPU, resident in the process on a CPU. Taken in a round that is not timed.
    """

    part: str
    ms: float
    images_per_s: float
    gflop: float
    gflops: float
    share: float
    memory_gb: float


def benchmark_models(
    cfgs: Sequence[Config],
    batch: int,
    size: int | Sequence[int] | None = None,
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    device: str = 'cpu',
    runs: int = 5,
    compiled: str | None = None,
    parts: Sequence[str] = tuple(NAMES),
) -> list[dict[str, Any]]:
    """Time the parts of models and dense encoders beside them, and a matrix product.

    All parts of all configs take turns in every round, in all types, so that a slow moment of the machine strikes all
    of them.

    Args:
        cfgs: Configs of pretraining.
        batch: Images per step.
        size: Pixels of the images, of their sides or of height and width; None for the ``img_size`` of each encoder, or
            224.
        dtypes: float32, and types of autocast.
        device: Where it runs, as torch names it.
        runs: Rounds, of which the medians are given.
        compiled: Compile encoders and decoders, and timm's dense encoders too: ``'whole'`` or their ``'blocks'``, see
            :func:`~mae_toolkit.models.compile.compile_parts`.
        parts: Keys of :data:`~mae_toolkit.benchmarks.model_parts.NAMES`.

    Returns:
        For each config and type ``rows`` (:class:`Row` as dicts), ``matrix_gflops``, ``visible``, ``eta``,
        ``masked_dense_over_encoder``, ``step_over_reference`` and the settings.

    Raises:
        UserError: If there is no such device.
    """
    place = torch.device(device)
    if place.type == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this machine has no GPU that torch can use.')
    models = [BenchmarkedModel(cfg, batch, size, place, parts) for cfg in cfgs]
    matrices: dict[Any, Part] = {dtype: _make_matrix_product(place, dtype) for dtype in dtypes}
    turns: dict[Any, Part] = {}  # by number of the model, type and name of the part
    for i, model in enumerate(models):
        turns |= {(i, dtype, part.name): part for dtype in dtypes for part in model.make_parts(dtype)}
    flops = {(i, name): count_flops(part.run) for (i, dtype, name), part in turns.items() if dtype == dtypes[0]}
    if compiled:
        for model in models:
            model.compile(compiled)
    times, memory = _measure(matrices | turns, place, runs)
    rates = {dtype: count_flops(part.run) / times[dtype] / 1e9 for dtype, part in matrices.items()}
    settings = {
        'batch': batch,
        'device': torch.cuda.get_device_name(place) if place.type == 'cuda' else 'cpu',
        'threads': torch.get_num_threads(),
        'runs': runs,
        'compiled': compiled,
    }
    results = []
    for i, model in enumerate(models):
        for dtype in dtypes:
            keys = [key for key in turns if key[:2] == (i, dtype)]
            rows = [_row(turns[key], times[key], flops[i, key[2]], rates[dtype], memory[key]) for key in keys]
            results.append(_result(rows, rates[dtype], dtype, model) | settings)
    return results


def report(result: dict[str, Any]) -> str:
    """Write a result of :func:`benchmark_models` as a table of text."""
    height, width = result['size']
    compiled = f', compiled {result["compiled"]}' if result['compiled'] else ''
    lines = [
        f'batch {result["batch"]} of {height} x {width}, {result["dtype"]}, {result["device"]}, '
        f'{result["threads"]} threads, medians of {result["runs"]} runs{compiled}',
        f'{"":22}{"ms":>10}{"images/s":>10}{"GFLOP":>10}{"GFLOP/s":>10}{"share":>8}{"GB":>8}',
    ]
    for row in result['rows']:
        lines.append(
            f'{row["part"]:22}{row["ms"]:10.1f}{row["images_per_s"]:10.1f}{row["gflop"]:10.1f}'
            f'{row["gflops"]:10.1f}{row["share"]:8.2f}{row["memory_gb"]:8.2f}'
        )
    lines.append(f'GB: beyond {result["weights_gb"]:.2f} GB of weights and optimizer state')
    lines.append(f'share: of {result["matrix_gflops"]:.0f} GFLOP/s, a large matrix product in this run')
    if result['eta'] is not None:
        lines.append(f'eta = v T_dense / T_masked = {result["eta"]:.3f} with v = {result["visible"]:.4f}')
    if result['masked_dense_over_encoder'] is not None:
        lines.append(f'{result["masked_dense_over_encoder"]:.2f} times faster than masked dense convolutions')
    if result['step_over_reference'] is not None:
        lines.append(
            f'a training step takes {result["step_over_reference"]:.3f} of the reference: a masked dense encoder, '
            'and the decoder channels first'
        )
    return '\n'.join(lines)


def compare(results: Sequence[dict[str, Any]]) -> str:
    """Write how many times faster than the first config the parts of each are, and encoders than dense ones.

    Args:
        results: What one call of :func:`benchmark_models` returned, each with the name of its ``config``.

    Returns:
        A table of text.
    """
    first = {row['part']: row['ms'] for row in results[0]['rows']}
    lines = ['times faster than the first config; last, time and memory of the dense encoder over those of the encoder']
    lines.append(''.join(f'{part:>22}' for part in first) + f'{"dense over encoder":>22}')
    for result in results:
        rows = {row['part']: row for row in result['rows']}
        cells = [f'{ms / rows[part]["ms"]:.2f}' if part in rows else '-' for part, ms in first.items()]
        encoder, dense = (rows.get(NAMES[key]) for key in ('encoder', 'dense'))
        ratios = [dense[key] / max(encoder[key], 1e-9) for key in ('ms', 'memory_gb')] if encoder and dense else None
        cells.append(f'{ratios[0]:.2f} / {ratios[1]:.2f}' if ratios else '-')
        lines.append(''.join(f'{cell:>22}' for cell in cells) + f'  {result["config"]} {result["dtype"]}')
    return '\n'.join(lines)


def _make_matrix_product(device: torch.device, dtype: torch.dtype) -> Part:
    """Make a large matrix product, which shows what the machine reaches at best.

    A small one where it is slow: without instructions for bfloat16 the largest takes minutes.
    """
    for side in MATRIX[device.type]:
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        a @ b  # the first product sets up threads and kernels
        start = perf_counter()
        a @ b
        if perf_counter() - start > LONG_ENOUGH:
            break
    return Part('matrix', lambda: a @ b, 0)


def _result(rows: Sequence[Row], rate: float, dtype: torch.dtype, model: BenchmarkedModel) -> dict[str, Any]:
    """Collect what was measured of one config in one type."""
    ms = {row.part: row.ms for row in rows}
    return {
        'rows': [row._asdict() for row in rows],
        'matrix_gflops': rate,
        'eta': _ratio(ms, 'dense', 'encoder', model.visible),
        'masked_dense_over_encoder': _ratio(ms, 'masked-dense', 'encoder'),
        'step_over_reference': _ratio(ms, 'step', 'reference-step'),
        'dtype': str(dtype).removeprefix('torch.'),
        'weights_gb': model.count_bytes() / 2**30,
        'visible': model.visible,
        'size': list(model.size),
    }


def _ratio(ms: Mapping[str, float], key: str, other: str, factor: float = 1.0) -> float | None:
    """Divide a part's time by another's, times a factor; None where one of them was not measured."""
    if NAMES[key] not in ms or NAMES[other] not in ms:
        return None
    return factor * ms[NAMES[key]] / ms[NAMES[other]]


def _measure(
    turns: Mapping[Hashable, Part], device: torch.device, runs: int
) -> tuple[dict[Hashable, float], dict[Hashable, int]]:
    """Measure median seconds and peak memory in bytes by key; two rounds before them warm up and measure memory."""
    times: dict[Hashable, list[float]] = {key: [] for key in turns}
    memory: dict[Hashable, int] = {}
    for i in tqdm(range(runs + 2), desc='rounds', unit='round'):
        for key, part in turns.items():
            peak = PeakMemory(device) if i == 1 else None
            start = perf_counter()
            part.run()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if i > 1:
                times[key].append(perf_counter() - start)
            if peak is not None:
                memory[key] = peak.read()
    return {key: median(values) for key, values in times.items()}, memory


def _row(part: Part, seconds: float, flops: int, rate: float, memory: int) -> Row:
    gflops = flops / seconds / 1e9
    return Row(part.name, seconds * 1e3, part.images / seconds, flops / 1e9, gflops, gflops / rate, memory / 2**30)
