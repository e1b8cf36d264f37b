"""Count the floating-point operations of a piece of work."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def count_flops(run: Callable[[], Any]) -> int:
    """Count the floating-point operations of ``run()``; attention counts as the matrix products that it is."""
    mapping = {torch.ops.aten.convolution_backward: count_convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def count_convolution_backward(
    grad_shape: list[int], x_shape: list[int], weight_shape: list[int], *args: Any, **kwargs: Any
) -> int:
    """Count the operations of a convolution's backward pass: each gradient takes those of the forward pass.

    torch's own formula takes the groups of a convolution for one when it comes to the gradient of the weights, and so
    counts it as many times too high as a depthwise convolution has channels.
    """
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, asked_for = args
    return sum(asked_for[:2]) * conv_flop_count(x_shape, weight_shape, grad_shape, transposed)
