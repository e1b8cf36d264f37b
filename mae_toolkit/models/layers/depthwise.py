"""Depthwise convolutions on packed cells, whose hidden neighbors are zero."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mae_toolkit.models.cells import Packing, pack, unpack

# oneDNN convolves quickly on the CPU, but differentiates depthwise weights slowly.
ONEDNN = torch.backends.mkldnn.is_available()


def depthwise(conv: nn.Conv2d, x: Tensor, packing: Packing | None) -> Tensor:
    """Apply a depthwise convolution of stride 1 to packed cells (B, C, V*u, u); ``packing=None`` means a whole map.

    On the CPU the gradient of its weights is a convolution, too (see :func:`compute_weight_gradient`), and only the
    packed cells are kept for it, not the map.
    """
    odd = conv.kernel_size[0] % 2 == conv.kernel_size[1] % 2 == 1
    same = tuple(conv.padding) == tuple(side // 2 for side in conv.kernel_size)
    if packing is None or not (x.is_cpu and ONEDNN and torch.backends.mkldnn.enabled and odd and same):
        return pack(conv(unpack(x, packing)), packing)
    if torch.is_autocast_enabled('cpu'):
        x = x.to(torch.get_autocast_dtype('cpu'))
    return _Depthwise.apply(x, conv.weight, conv.bias, *packing)


class _Depthwise(torch.autograd.Function):
    """Scattering, convolution and gathering in one step; the gradient does the same with the kernel turned around."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, grid: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight, ids)
        ctx.grid = grid
        packing = Packing(ids, grid)
        bias = None if bias is None else bias.to(x.dtype)
        return pack(_convolve(unpack(x, packing), weight, bias), packing)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, ids = ctx.saved_tensors
        packing = Packing(ids, ctx.grid)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = pack(_convolve(unpack(grad, packing), weight.flip(2, 3)), packing)
        if ctx.needs_input_grad[1]:
            grad_weight = compute_weight_gradient(x, grad, packing, weight.shape[2:]).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3), dtype=weight.dtype)
        return grad_x, grad_weight, grad_bias, None, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    padding = tuple(side // 2 for side in weight.shape[2:])
    return functional.conv2d(x, weight.to(x.dtype), bias, padding=padding, groups=len(weight))


def compute_weight_gradient(x: Tensor, grad: Tensor, packing: Packing, kernel: Sequence[int]) -> Tensor:
    """Compute the gradient of a depthwise convolution's weights.

    It is the convolution of x with the gradient of y as the kernel, one for each channel of each image, or of each
    cell: a depthwise convolution of B*C, or of B*V*C, channels, which is summed over images or cells. By cells no
    hidden position is computed, but a cell is read with its border, and its sum has the size of the kernel; so the
    map is taken for cells of less than four positions a side.

    Args:
        x: Packed cells (B, C, V*u, u).
        grad: Gradient of the packed result, of the same shape.
        packing: Which cells they are.
        kernel: Rows and columns of the kernel, odd.

    Returns:
        (C, 1, *kernel), in float32 or better.
    """
    c, unit, border = x.shape[1], x.shape[3], [side // 2 for side in kernel]
    whole = functional.pad(unpack(x, packing), (border[1], border[1], border[0], border[0]))
    if unit < 4:
        windows, grad = whole.permute(2, 3, 0, 1), unpack(grad, packing).permute(2, 3, 0, 1)  # (y, x, B, C)
    else:
        windows = _with_borders(whole, packing, unit, border)  # (y, x, B*V, C)
        grad = grad.unflatten(2, (-1, unit)).permute(3, 4, 0, 2, 1)  # (u, u, B, V, C)
    windows = windows.flatten(2).unsqueeze(0).permute(0, 3, 1, 2)  # (1, N*C, y, x), channels last
    grad = grad.flatten(2).permute(2, 0, 1).unsqueeze(1)  # (N*C, 1, u, u)
    sums = functional.conv2d(windows, grad.to(x.dtype), groups=len(grad))  # (1, N*C, *kernel)
    return sums.view(-1, c, *kernel).sum(0, dtype=torch.promote_types(x.dtype, torch.float32)).unsqueeze(1)


def _with_borders(whole: Tensor, packing: Packing, unit: int, border: Sequence[int]) -> Tensor:
    """Take the visible cells with their neighbors (u + 2 border, u + 2 border, B*V, C) of a padded map (B, C, H, W)."""
    b, c, height, width = whole.shape
    side = [torch.arange(unit + 2 * size, device=whole.device) for size in border]
    image = torch.arange(b, device=whole.device).unsqueeze(1)
    y, x = packing.ids // packing.grid[1] * unit, packing.ids % packing.grid[1] * unit
    corner = ((image * height + y) * width + x).flatten()  # (B*V,)
    index = (side[0].unsqueeze(1) * width + side[1]).unsqueeze(-1) + corner  # (y, x, B*V)
    return whole.permute(0, 2, 3, 1).reshape(-1, c).index_select(0, index.flatten()).view(*index.shape, c)
