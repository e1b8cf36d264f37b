"""What a device reaches in practice, and how long kernels take at these rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from mae_toolkit.device_peaks import DevicePeak
from mae_toolkit.errors import UserError
from mae_toolkit.planning.cluster.kernels import Kernel

# Shares of the peaks that kernels reach where nothing was measured: products of very large matrices on tensor cores;
# attention (FlashAttention-2 on an H100, arXiv:2407.08608, section 1); kernels that move bytes; and depthwise
# convolutions, which do not run on tensor cores (a share of the peak of float32).
SHARES = {'matmul': 0.67, 'attention': 0.35, 'memory': 0.8, 'depthwise': 0.3}
HALF_SIDE = 170  # numbers in the smallest side of a product that reaches half the rate of very large ones
KERNEL_SECONDS = 4e-6  # from one kernel to the next on a GPU, if nothing else takes longer
OPERATOR_SECONDS = 8e-6  # that Python and torch take to launch an operator
ROUNDS = 5


@dataclass(frozen=True)
class Rates:
    """What a device reaches.

    Attributes:
        name: The device.
        peak: FLOP/s of matrix products at best, in the type of the training; the base of shares of the peak.
        matmul: FLOP/s of products of very large matrices.
        attention: FLOP/s of attention, tiles in vain among them.
        depthwise: FLOP/s of depthwise convolutions.
        memory: Bytes per second read and written.
        kernel_seconds: Least time of a kernel.
        operator_seconds: Least time of an operator that is not compiled.
        measured: Whether the rates were measured, or follow from data sheets.
        half_side: Smallest side of a matrix product that reaches half of ``matmul``.
    """

    name: str
    peak: float
    matmul: float
    depthwise: float
    memory: float
    attention: float
    kernel_seconds: float = KERNEL_SECONDS
    operator_seconds: float = OPERATOR_SECONDS
    measured: bool = False
    half_side: float = 0.0

    def seconds(self, kernels: Iterable[Kernel]) -> float:
        """Add up kernels: each takes the longer of its operations and its bytes."""
        return sum(
            max(kernel.flops / self._find_rate(kernel), kernel.nbytes / self.memory, self.kernel_seconds)
            for kernel in kernels
        )

    def _find_rate(self, kernel: Kernel) -> float:
        if kernel.kind == 'matmul' and kernel.side:
            return self.matmul * kernel.side / (kernel.side + self.half_side)
        return {'depthwise': self.depthwise, 'attention': self.attention}.get(kernel.kind, self.matmul)


def rates_from_peak(peak: DevicePeak, dtype: torch.dtype, allow_tf32: bool = False) -> Rates:
    """Return what a GPU probably reaches, by :data:`SHARES` of its data sheet.

    Raises:
        UserError: If the GPU does not compute in this type.
    """
    top = peak.flops_per_second(dtype, allow_tf32)
    if top is None:
        name = str(dtype).removeprefix('torch.')
        raise UserError(f'{peak.name} has no {name} on its tensor cores: plan with --dtype float16 or float32.')
    return Rates(
        peak.name,
        top,
        top * SHARES['matmul'],
        peak.float32 * SHARES['depthwise'],
        peak.memory_bandwidth * SHARES['memory'],
        top * SHARES['attention'],
        half_side=HALF_SIDE,
    )


def measure_rates(device: torch.device, dtype: torch.dtype, peak: float | None = None) -> Rates:
    """Measure on a device of this machine what matrix products, depthwise convolutions and copies reach.

    Attention takes the share of matrix products that it has by default on a GPU, and on a CPU all of it.

    Args:
        device: A GPU or the CPU.
        dtype: Type in which the training multiplies.
        peak: FLOP/s of the data sheet; those of the matrix product, if None.
    """
    is_gpu = device.type == 'cuda'
    rows, inner, columns = (16384, 1024, 4096) if is_gpu else (1024, 256, 512)
    a, b = torch.randn(rows, inner, device=device, dtype=dtype), torch.randn(inner, columns, device=device, dtype=dtype)
    matmul = 2 * rows * inner * columns / _time(lambda: a @ b, device)
    source = torch.randn(2**28 if is_gpu else 2**23, device=device)
    target = torch.empty_like(source)
    copy = 2 * 4 * source.numel() / _time(lambda: target.copy_(source), device)
    depthwise = _measure_depthwise(device, dtype)
    name = torch.cuda.get_device_name(device) if is_gpu else 'cpu'
    if not is_gpu:
        return Rates(name, peak or matmul, matmul, depthwise, copy, matmul, _measure_operator(), 0.0, True)
    matmul *= (inner + HALF_SIDE) / inner  # that of very large matrices
    attention = matmul * SHARES['attention'] / SHARES['matmul']
    return Rates(name, peak or matmul, matmul, depthwise, copy, attention, measured=True, half_side=HALF_SIDE)


def _measure_operator() -> float:
    """Measure the seconds of an operator of the CPU that has almost nothing to do."""
    x = torch.zeros(8, requires_grad=True)
    operators = 200  # forward; each has another one backward

    def run() -> Tensor:
        y = x
        for _ in range(operators):
            y = y * 1.0
        return torch.autograd.grad(y.sum(), x)[0]

    return _time(run, torch.device('cpu')) / (2 * operators)


def _measure_depthwise(device: torch.device, dtype: torch.dtype) -> float:
    """Measure FLOP/s of a 7 x 7 depthwise convolution, forward and backward, as ConvNeXts use it."""
    batch, channels, side = (64, 384, 28) if device.type == 'cuda' else (4, 64, 14)
    x = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, 1, 7, 7, device=device, dtype=dtype, requires_grad=True)

    def run() -> Tensor:
        y = functional.conv2d(x, weight, padding=3, groups=channels)
        return torch.autograd.grad(y, (x, weight), y)[0]

    return 3 * 2 * 49 * x.numel() / _time(run, device)


def _time(run: Callable[[], Tensor], device: torch.device) -> float:
    """Return the median seconds of a few rounds, after one that warms up."""
    seconds = []
    for _ in range(ROUNDS + 1):
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return median(seconds[1:])
