"""ConvNeXt V1 and V2 of timm that compute only the visible cells."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.convnext import ConvNeXt as TimmConvNeXt
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, Packing, pack
from mae_toolkit.models.encoders.timm_body import check_frozen, create_body
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.depthwise import depthwise
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule


@MODELS.register_module()
class ConvNeXt(TimmEncoder):
    """Any ``ConvNeXt`` of timm, V1 or V2; only the depthwise convolutions see more than the packed visible cells.

    Stem, norms, MLPs, GRN and downsampling work within a cell or sum over space, so timm's own modules run on the
    visible cells alone (see :class:`~mae_toolkit.models.cells.Packing`). A depthwise convolution takes hidden
    neighbors as zeros, as SparK (arXiv:2301.03580, section 3.2) and FCMAE (arXiv:2301.00808, section 3.1) do.
    Images of any size are padded to a multiple of the deepest stride.

    Args:
        arch: Name in timm, such as ``'convnextv2_base'``.
        in_chans: Channels of the images.
        out_indices: Stages whose output is returned, -1 for the stem; the last one if None. Stages after the last
            index are not built.
        out_norms: Apply a layer norm to each output, as detectors and segmenters use it.
        grn_over_batch: Let GRN sum over the visible cells of all images of the batch, as FCMAE's official code does,
            not over those of each image.
        frozen_stages: Freeze the stem and this many stages after it; -1 for nothing, 0 for the stem.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg: See :class:`Encoder`.
        **kwargs: Arguments of timm, such as ``depths``, ``dims``, ``drop_path_rate``.

    Raises:
        UserError: If the architecture is unknown, or an operator reaches across cells where it may not.
    """

    timm_classes = (TimmConvNeXt,)

    def __init__(
        self,
        arch: str = 'convnextv2_base',
        in_chans: int = 3,
        out_indices: Sequence[int] | int | None = None,
        out_norms: bool = False,
        grn_over_batch: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        body = create_body(arch, self.timm_classes, 'convnext', in_chans=in_chans, **kwargs)
        self.set_body(body, len(body.stages), out_indices)
        self.in_chans, self.grn_over_batch, self.with_cp = in_chans, grn_over_batch, with_cp
        last = max(self.out_indices)
        if last < len(body.stages) - 1:
            body.norm_pre = nn.Identity()
        body.stages, body.head = body.stages[: last + 1], nn.Identity()
        _refuse_overlap(arch, body)
        channels, strides = _measure_levels(body)
        self.out_channels = tuple(channels[i + 1] for i in self.out_indices)
        self.out_strides = tuple(strides[i + 1] for i in self.out_indices)
        self.mask_unit = strides[-1]
        self.set_norms(out_norms)
        frozen_stages = check_frozen(frozen_stages, len(body.stages), 'stages')
        self.freeze([body.stem, *body.stages[: max(frozen_stages, 0)]] if frozen_stages >= 0 else [])

    @classmethod
    def downstream(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Turn a pretraining config into one for detectors, where GRN sums over each image.

        See :meth:`Encoder.downstream`.
        """
        return {key: value for key, value in super().downstream(config).items() if key != 'grn_over_batch'}

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Run stem and stages on the visible cells, see :meth:`Encoder.stages`."""
        packing = self.packing(cells)
        x = pack(x.contiguous(memory_format=torch.channels_last), packing)
        levels = {-1: (x := self.body.stem(x))}  # (B, C, V*u, u)
        for i, stage in enumerate(self.body.stages):
            x = stage.downsample(x)
            for block in stage.blocks:
                x = self.run(self._block, block, x, packing)
            levels[i] = x
        levels[len(self.body.stages) - 1] = self.body.norm_pre(x)
        return self.outputs(levels, packing)

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the blocks of all stages, see :meth:`Encoder.list_blocks`."""
        return tuple(block for stage in self.body.stages for block in stage.blocks)

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest, see :meth:`Encoder.layer_depth`.

        A downsampling has the depth of the block after it; what follows the stages is deepest. ``'block'`` counts every
        block, and the stem goes with the first: there is no depth 0 (FCMAE's fine-tuning of the small sizes, ``single``
        in the official ``optim_factory.py``). ``'group'`` has the stem at 0 and the 12 groups of ConvNeXt's recipes
        (arXiv:2201.03545, appendix A.1; BEiT's rule): stages 1 and 2, each three blocks of stage 3, and stage 4, which
        is the twelfth.
        """
        depths = [len(stage.blocks) for stage in self.body.stages]
        deepest = 13 if grouping == 'group' else sum(depths) + 1
        parts = name.removeprefix('body.').split('.')
        if parts[0] != 'stages':
            stem = 0 if grouping == 'group' else 1
            return (stem if parts[0] == 'stem' else deepest), deepest
        stage, block = int(parts[1]), int(parts[3]) if parts[2] == 'blocks' else 0
        if grouping == 'group':
            return (1, 2, 3 + block // 3, 12)[stage], deepest
        return sum(depths[:stage]) + block + 1, deepest

    def _block(self, block: TimmModule, shortcut: Tensor, packing: Packing | None) -> Tensor:
        """Run timm's block on packed cells (B, C, V*u, u)."""
        x = depthwise(block.conv_dw, shortcut, packing).permute(0, 2, 3, 1)  # (B, V*u, u, C)
        shape = x.shape
        x = x.flatten(0, 1).unsqueeze(0) if self.grn_over_batch else x
        if block.use_conv_mlp:
            x = block.mlp(block.norm(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        else:
            x = block.mlp(block.norm(x))
        x = x.reshape(shape)
        x = x if block.gamma is None else x * block.gamma
        return block.drop_path(x.permute(0, 3, 1, 2)) + shortcut


def _refuse_overlap(arch: str, body: TimmModule) -> None:
    """Refuse convolutions other than the depthwise ones that reach across cells, and depthwise ones that resize."""
    for name, conv in body.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        kernel, stride = conv.kernel_size, conv.stride
        if name.endswith('conv_dw'):
            fits = stride == (1, 1) and conv.dilation == (1, 1)
        else:
            fits = kernel == stride and conv.padding in ((0, 0), 0)
        if not fits or '.shortcut.' in name:
            raise UserError(
                f'ConvNeXt cannot pack {arch!r}: {name}, of kernel {kernel[0]}, stride {stride[0]} and dilation '
                f'{conv.dilation[0]}, reaches beyond a cell; use SparseCNN for it.'
            )


def _measure_levels(body: TimmModule) -> tuple[list[int], list[int]]:
    """Return channels and strides of the stem and of each stage."""
    channels, strides = [body.stem[0].out_channels], [body.stem[0].stride[0]]
    for stage in body.stages:
        step = 1 if isinstance(stage.downsample, nn.Identity) else stage.downsample[1].stride[0]
        channels.append(stage.blocks[-1].conv_dw.out_channels)
        strides.append(strides[-1] * step)
    return channels, strides
