"""How fast a masked autoencoder runs, measured against the machine and against the dense encoder of timm."""

from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from time import perf_counter
from typing import NamedTuple

import timm
import torch
from tqdm import tqdm

from mae_toolkit.apis.model import build_model
from mae_toolkit.benchmarks.flops import count_flops
from mae_toolkit.benchmarks.memory import PeakMemory
from mae_toolkit.engine.hooks.compile import compile_parts
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders.timm_body import timm_arguments
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import arguments

MATRIX = {'cpu': 3072, 'cuda': 8192}  # side of the square matrices that set the machine's rate


class Part(NamedTuple):
    """Something to time: a name, a function without arguments, and the images that it handles."""

    name: str
    run: Callable
    images: int


class Row(NamedTuple):
    """What was measured of one part.

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


def benchmark_model(cfg, batch, size, dtypes=(torch.float32,), device='cpu', runs=5, compiled=False):
    """Time a full training step, forward, encoder, decoder, the matrix product and timm's dense encoder.

    The parts take turns in every round, in all types, so that a slow moment of the machine strikes all of them.

    Args:
        cfg (Config): With ``model`` and ``optim_wrapper``.
        batch (int): Images per step.
        size (tuple[int, int]): Height and width of the images.
        dtypes (tuple[torch.dtype, ...]): float32, and types of autocast.
        device (str): As torch names it.
        runs (int): Rounds, of which the medians are given.
        compiled (bool): Compile the encoder and the decoder, and the dense encoder too.

    Returns:
        list[dict]: Per type ``rows`` (list of :class:`Row` as dicts), ``matrix_gflops``, ``visible``, ``eta`` and the
        settings.
    """
    device = torch.device(device)
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this machine has no GPU that torch can use.')
    model = build_model(cfg).to(device).train()
    imgs = torch.randn(batch, model.encoder.in_chans, *size, device=device)
    mask, num_visible = model.draw_mask(imgs)
    dense = _dense(cfg, model.encoder, size, device)
    optimizer = _optimizer(cfg, model)
    parts = {dtype: [*_parts(model, dense, imgs, optimizer, dtype), _matrix(device, dtype)] for dtype in dtypes}
    flops = {part.name: count_flops(part.run) for part in parts[dtypes[0]]}
    if compiled:
        compile_parts(model)
        if dense is not None:
            dense.forward = torch.compile(dense.forward)
    times, memory = _measure(parts, device, runs)
    settings = {
        'weights_gb': _held(model, optimizer) / 2**30,
        'visible': num_visible / mask[0].numel(),
        'batch': batch,
        'size': list(size),
        'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu',
        'threads': torch.get_num_threads(),
        'runs': runs,
        'compiled': compiled,
    }
    return [_result(dtype, parts[dtype], flops, times, memory, settings) for dtype in dtypes]


def report(result):
    """The result of :func:`benchmark_model` as a table of text."""
    height, width = result['size']
    lines = [
        f'batch {result["batch"]} of {height} x {width}, {result["dtype"]}, {result["device"]}, '
        f'{result["threads"]} threads, medians of {result["runs"]} runs{", compiled" if result["compiled"] else ""}',
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
    return '\n'.join(lines)


def _matrix(device, dtype):
    """A large matrix product: what the machine reaches at best."""
    side = MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return Part('matrix', lambda: a @ b, 0)


def _result(dtype, parts, flops, times, memory, settings):
    """What was measured in one type."""
    seconds = {part.name: times[dtype, part.name] for part in parts}
    rate = flops['matrix'] / seconds['matrix'] / 1e9
    rows = [_row(p, seconds[p.name], flops[p.name], rate, memory[dtype, p.name]) for p in parts if p.name != 'matrix']
    dense = seconds.get('timm dense encoder')
    return {
        'rows': [row._asdict() for row in rows],
        'matrix_gflops': rate,
        'eta': None if dense is None else settings['visible'] * dense / seconds['encoder'],
        'dtype': str(dtype).removeprefix('torch.'),
        **settings,
    }


def _parts(model, dense, imgs, optimizer, dtype):
    """The parts to time; each draws its own mask, as training does."""
    batch, autocast = len(imgs), _autocast(imgs.device, dtype)

    def step():
        with autocast():
            loss = sum(model(imgs, mode='loss').values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def forward():
        with torch.no_grad(), autocast():
            model(imgs, mode='loss')

    def encode():
        mask, num_visible = model.draw_mask(imgs)
        with autocast():
            features = model.encoder.encode(hide(imgs, mask), mask, num_visible)
            loss = _sum(features.maps)
        loss.backward()
        model.zero_grad()

    with torch.no_grad(), autocast():
        given, _ = model.draw_mask(imgs)
        features = model.encoder.encode(hide(imgs, given), given)

    def decode():
        with autocast():
            loss = _sum([model.decoder(features, given, given)])
        loss.backward()
        model.zero_grad()

    def encode_dense():
        with autocast():
            loss = _sum(dense(imgs))
        loss.backward()
        dense.zero_grad()

    parts = [
        Part('training step', step, batch),
        Part('forward', forward, batch),
        Part('encoder', encode, batch),
        Part('decoder', decode, batch),
    ]
    return parts if dense is None else [*parts, Part('timm dense encoder', encode_dense, batch)]


def _sum(maps):
    return sum(x.float().square().mean() for x in maps)


class _DenseLevels(torch.nn.Module):
    """timm's own model, giving the levels that the encoder gives."""

    def __init__(self, body, indices, norm):
        super().__init__()
        self.body, self.options = body, dict(indices=indices, norm=norm, stop_early=True, intermediates_only=True)

    def forward(self, imgs):
        return self.body.forward_intermediates(imgs, **self.options)


def _dense(cfg, encoder, size, device):
    """timm's model for this size and these levels, or None where the encoder gives its embedded input."""
    indices = [i for i in encoder.out_indices if i >= 0]
    if len(indices) != len(encoder.out_indices):
        return None
    arch, given = timm_arguments(cfg.model.encoder)
    given |= {'img_size': tuple(size)} if 'img_size' in given else {}
    norm = 'final_norm' in arguments(type(encoder)) and cfg.model.encoder.get('final_norm', True)
    body = timm.create_model(arch, num_classes=0, global_pool='', **given)
    return _DenseLevels(body, indices, norm).to(device).train()


def _optimizer(cfg, model):
    options = dict(cfg.optim_wrapper.optimizer)
    return getattr(torch.optim, options.pop('type'))([p for p in model.parameters() if p.requires_grad], **options)


def _held(model, optimizer):
    """Bytes of weights and optimizer state."""
    state = [t for values in optimizer.state.values() for t in values.values() if isinstance(t, torch.Tensor)]
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers(), *state))


def _autocast(device, dtype):
    if dtype == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype)


def _measure(parts, device, runs):
    """Median seconds and peak memory in bytes by (type, part); two rounds before them warm up and measure memory."""
    turns = [(dtype, part) for same in zip(*parts.values(), strict=True) for dtype, part in zip(parts, same)]
    times = {(dtype, part.name): [] for dtype, part in turns}
    memory = dict.fromkeys(times, 0)
    for i in tqdm(range(runs + 2), desc='rounds', unit='round'):
        for dtype, part in turns:
            peak = PeakMemory(device) if i == 1 else None
            start = perf_counter()
            part.run()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if i > 1:
                times[dtype, part.name].append(perf_counter() - start)
            if peak is not None:
                memory[dtype, part.name] = peak.read()
    return {name: median(values) for name, values in times.items()}, memory


def _row(part, seconds, flops, rate, memory):
    gflops = flops / seconds / 1e9
    return Row(part.name, seconds * 1e3, part.images / seconds, flops / 1e9, gflops, gflops / rate, memory / 2**30)
