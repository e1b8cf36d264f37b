"""Batch norms over all processes, and batch norms that can be replaced."""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the positions of all processes, however many each of them has.

    It runs on every device; torch's own needs a GPU. Given packed cells, the positions are those that are visible.
    Statistics are computed in float32 or better; names are those of :class:`torch.nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        if not (self.training and together):
            return super().forward(x)
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        count = exact.new_tensor([x.numel() // x.shape[1]])
        *sums, count = all_reduce(torch.cat([exact.sum((0, 2, 3)), count])).split((x.shape[1], 1))
        mean = sums[0] / count  # (C,)
        centered = exact - mean[:, None, None]
        variance = all_reduce(centered.square().sum((0, 2, 3))) / count
        self._follow(mean, variance * count / (count - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt()
        scale = scale * self.weight if self.affine else scale
        shift = self.bias[:, None, None] if self.affine else 0
        return (centered * scale[:, None, None] + shift).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics as torch does; ``momentum=None`` averages over all batches."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        kept, count = self.running_mean.dtype, self.num_batches_tracked
        if count is not None:
            count.add_(1)
        step: Any = 1 / count.to(kept) if self.momentum is None and count is not None else self.momentum
        self.running_mean.lerp_(mean.to(kept), step)
        self.running_var.lerp_(variance.to(kept), step)


def synchronize(module: nn.Module) -> None:
    """Replace all batch norms of maps within a module, in place; names and parameters stay."""
    _exchange(module, lambda norm: type(norm) is nn.BatchNorm2d, SyncBatchNorm2d)


def split_activations(module: nn.Module) -> None:
    """Replace timm's batch norms that drop and activate by plain ones that hold these layers, in place.

    Whoever exchanges batch norms, as ``sync_bn='torch'`` of MMEngine's Runner does, keeps the layers that they hold,
    but not what they do. The caller runs ``norm``, ``norm.drop`` and ``norm.act`` one after the other.
    """
    _exchange(module, lambda norm: isinstance(norm, BatchNormAct2d), nn.BatchNorm2d)


def _exchange(module: nn.Module, chosen: Callable[[nn.Module], bool], kind: type[nn.Module]) -> None:
    for name, child in module.named_children():
        if chosen(child):
            norm = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            vars(norm).update(vars(child))  # parameters, statistics, layers within, mode
            setattr(module, name, norm)
        else:
            _exchange(child, chosen, kind)
