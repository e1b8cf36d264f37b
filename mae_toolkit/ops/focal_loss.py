"""Sigmoid focal loss under MMCV's calling convention (arXiv:1708.02002, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mae_toolkit.ops.precision import promote_dtypes


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the focal loss of every class for every sample, and write it into ``output``.

    Args:
        input: Logits (N, C).
        target: Class indices (N,), int64; C, or any other number that is not a class index, is background.
        weight: Weight of the samples of each class (C,), or empty. The weight of background is 1.
        output: Receives the losses (N, C).
        gamma: Exponent of the factor that makes easy samples count less.
        alpha: Weight of the loss for the true class; 1 - alpha is that of the other classes.
    """
    x, is_target = input.to(promote_dtypes(input)), _is_target(input, target)
    probability = x.sigmoid()
    loss = torch.where(
        is_target,
        -alpha * (1 - probability) ** gamma * logsigmoid(x),
        (alpha - 1) * probability**gamma * logsigmoid(-x),
    )
    output.copy_(_weighted(loss, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the derivative of each loss of :func:`sigmoid_focal_loss_forward` with respect to its logit.

    Args:
        input: Logits (N, C).
        target: Class indices (N,).
        weight: Weight of the samples of each class (C,), or empty.
        grad_input: Receives the derivatives (N, C).
        gamma: See :func:`sigmoid_focal_loss_forward`.
        alpha: See :func:`sigmoid_focal_loss_forward`.
    """
    x, is_target = input.to(promote_dtypes(input)), _is_target(input, target)
    p = x.sigmoid()
    gradient = torch.where(
        is_target,
        -alpha * (1 - p) ** gamma * (1 - p - gamma * p * logsigmoid(x)),
        (alpha - 1) * p**gamma * (gamma * (1 - p) * logsigmoid(-x) - p),
    )
    grad_input.copy_(_weighted(gradient, target, weight))


def _is_target(input: Tensor, target: Tensor) -> Tensor:
    """Return a mask (N, C) that is True at the class of each sample."""
    return target[:, None] == torch.arange(input.shape[1], device=input.device)


def _weighted(values: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Multiply values (N, C) by the weight of each sample's class."""
    if not weight.numel():
        return values
    has_class = (target >= 0) & (target < len(weight))
    factors = torch.where(has_class, weight[target.clamp(0, len(weight) - 1)], 1)
    return values * factors[:, None].to(values.dtype)
