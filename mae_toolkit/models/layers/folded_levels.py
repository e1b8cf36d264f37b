"""Levels of several strides as one map: finer ones are folded, all are projected and added."""

from torch import nn

from mae_toolkit.models.mask_ops import fold, to_map, to_tokens


class FoldedLevels(nn.ModuleList):
    """One linear layer per level, which takes all positions of the level that make one of the coarsest.

    Args:
        in_channels (tuple[int, ...]), in_strides (tuple[int, ...]): The encoder's levels; each stride divides the
            greatest.
        embed_dim (int): Channels D of the sum.
    """

    def __init__(self, in_channels, in_strides, embed_dim):
        self.stride = max(in_strides)
        self.folds = tuple(self.stride // stride for stride in in_strides)
        inputs = [channels * factor**2 for channels, factor in zip(in_channels, self.folds, strict=True)]
        super().__init__(nn.Linear(channels, embed_dim) for channels in inputs)

    def forward(self, maps):
        """Maps (B, C_i, H/s_i, W/s_i) -> (B, D, H/s, W/s), channels last; s is the greatest stride."""
        folded = [fold(x, factor) for x, factor in zip(maps, self.folds, strict=True)]
        tokens = sum(linear(to_tokens(x)) for linear, x in zip(self, folded, strict=True))  # (B, L, D)
        return to_map(tokens, folded[-1].shape[-2:])
