"""Sigmoid focal loss under MMCV's calling convention (arXiv:1708.02002, section 3.2)."""

import torch
from torch.nn.functional import logsigmoid

from mae_toolkit.ops.precision import common_type


def sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha):
    """Focal loss of every class for every sample.

    Args:
        input (Tensor): (N, C), before the sigmoid.
        target (Tensor): (N,) int64, the class of a sample; C, or any other number, is background.
        weight (Tensor): (C,), factors of the samples by their class, or empty. That of background is one.
        output (Tensor): (N, C), is written.
        gamma (float): Exponent of the factor that makes easy samples count less.
        alpha (float): Factor of the class of a sample; one less it, of the others.
    """
    x, positive = input.to(common_type(input)), _positive(input, target)
    probability = x.sigmoid()
    loss = torch.where(
        positive,
        -alpha * (1 - probability) ** gamma * logsigmoid(x),
        (alpha - 1) * probability**gamma * logsigmoid(-x),
    )
    output.copy_(_weighted(loss, target, weight))


def sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma, alpha):
    """Derivative of each value of :func:`sigmoid_focal_loss_forward` by its input, written into ``grad_input``."""
    x, positive = input.to(common_type(input)), _positive(input, target)
    p = x.sigmoid()
    gradient = torch.where(
        positive,
        -alpha * (1 - p) ** gamma * (1 - p - gamma * p * logsigmoid(x)),
        (alpha - 1) * p**gamma * (gamma * (1 - p) * logsigmoid(-x) - p),
    )
    grad_input.copy_(_weighted(gradient, target, weight))


def _positive(input, target):
    """(N, C) bool: the class of each sample."""
    return target[:, None] == torch.arange(input.shape[1], device=input.device)


def _weighted(values, target, weight):
    if not weight.numel():
        return values
    known = (target >= 0) & (target < len(weight))
    factors = torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1)
    return values * factors[:, None].to(values.dtype)
