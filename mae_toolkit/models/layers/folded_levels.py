"""Levels of several strides as one map: finer ones are folded, all are projected and added."""

from collections.abc import Sequence

from torch import Tensor, nn

from mae_toolkit.models.mask_ops import fold, to_map, to_tokens


class FoldedLevels(nn.ModuleList):
    """One linear layer per level, which takes all positions of the level that make one of the coarsest.

    Args:
        in_channels: Channels of the encoder's levels.
        in_strides: Pixels per position of these levels; each divides the greatest.
        embed_dim: Channels D of the sum.
    """

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int], embed_dim: int) -> None:
        self.stride = max(in_strides)
        self.folds = tuple(self.stride // stride for stride in in_strides)
        inputs = [channels * factor**2 for channels, factor in zip(in_channels, self.folds, strict=True)]
        super().__init__(nn.Linear(channels, embed_dim) for channels in inputs)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Add the levels: maps (B, C_i, H/s_i, W/s_i) -> (B, D, H/s, W/s), channels last; s is the greatest stride."""
        folded = [fold(x, factor) for x, factor in zip(maps, self.folds, strict=True)]
        tokens = sum(linear(to_tokens(x)) for linear, x in zip(self, folded, strict=True))  # (B, L, D)
        return to_map(tokens, folded[-1].shape[-2:])
