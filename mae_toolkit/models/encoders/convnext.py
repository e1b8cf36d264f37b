"""ConvNeXt V1 and V2 of timm that compute only the visible cells."""

import torch
from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXt as TimmConvNeXt
from torch import nn
from torch.utils.checkpoint import checkpoint

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import pack, unpack
from mae_toolkit.models.encoders.encoder import Encoder
from mae_toolkit.models.encoders.timm_body import check_frozen, check_indices, create_body
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.depthwise import depthwise
from mae_toolkit.models.layers.padding import crop_map, pad_to_multiple
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class ConvNeXt(Encoder):
    """Any ``ConvNeXt`` of timm, V1 or V2; only the depthwise convolutions see more than the packed visible cells.

    Stem, norms, MLPs, GRN and downsampling work within a cell or sum over space, so timm's own modules run on the
    visible cells alone (see :class:`~mae_toolkit.models.cells.Packing`). A depthwise convolution takes hidden
    neighbors as zeros, as SparK (arXiv:2301.03580, section 3.2) and FCMAE (arXiv:2301.00808, section 3.1) do.
    Images of any size are padded to a multiple of the deepest stride.

    Args:
        arch (str): Name in timm, such as ``'convnextv2_base'``.
        in_chans (int): Channels of the images.
        out_indices (tuple[int, ...] | None): Stages whose output is returned, -1 for the stem; the last one by
            default. Stages after the last index are not built.
        out_norms (bool): Layer norm of each output, as detectors and segmenters use it.
        grn_over_batch (bool): GRN sums over the visible cells of all images of the batch, as FCMAE's official code
            does, not over those of each image.
        frozen_stages (int): The stem and so many stages after it are frozen; -1 for nothing, 0 for the stem.
        with_cp (bool): Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg (dict | None): See :class:`Encoder`.
        **kwargs: To timm, such as ``depths``, ``dims``, ``drop_path_rate``.

    Raises:
        UserError: If the architecture is unknown, or an operator reaches across cells where it may not.
    """

    def __init__(
        self,
        arch='convnextv2_base',
        in_chans=3,
        out_indices=None,
        out_norms=False,
        grn_over_batch=False,
        frozen_stages=-1,
        with_cp=False,
        init_cfg=None,
        **kwargs,
    ):
        super().__init__(init_cfg)
        self.body = body = create_body(arch, (TimmConvNeXt,), 'convnext', in_chans=in_chans, **kwargs)
        self.architecture_names = frozenset(body.state_dict())
        self.num_levels = len(body.stages)
        self.out_indices = check_indices(out_indices, self.num_levels, 'stages')
        self.in_chans, self.grn_over_batch, self.with_cp = in_chans, grn_over_batch, with_cp
        last = max(self.out_indices)
        if last < len(body.stages) - 1:
            body.norm_pre = nn.Identity()
        body.stages, body.head = body.stages[: last + 1], nn.Identity()
        _refuse_overlap(arch, body)
        channels, strides = _levels(body)
        self.out_channels = tuple(channels[i + 1] for i in self.out_indices)
        self.out_strides = tuple(strides[i + 1] for i in self.out_indices)
        self.mask_unit = strides[-1]
        self.out_norms = nn.ModuleList(LayerNorm2d(c) if out_norms else nn.Identity() for c in self.out_channels)
        frozen_stages = check_frozen(frozen_stages, len(body.stages), 'stages')
        self.freeze([body.stem, *body.stages[: max(frozen_stages, 0)]] if frozen_stages >= 0 else [])

    @classmethod
    def downstream(cls, config):
        """See :meth:`Encoder.downstream`; GRN sums over each image by itself."""
        return {key: value for key, value in super().downstream(config).items() if key != 'grn_over_batch'}

    def _encode(self, imgs, cells):
        """Encode the visible cells; see :meth:`Encoder.encode`."""
        packing, size = None if cells is None else cells.visible(), imgs.shape[-2:]
        imgs = pad_to_multiple(imgs, self.mask_unit) if cells is None else imgs
        imgs = imgs.contiguous(memory_format=torch.channels_last)
        levels = self._levels(pack(imgs, packing), packing)
        outputs = (norm(levels[i]) for norm, i in zip(self.out_norms, self.out_indices, strict=True))
        maps = [crop_map(unpack(x, packing), size, stride) for x, stride in zip(outputs, self.out_strides, strict=True)]
        return Features(tuple(maps), (None,) * len(maps))

    def layer_depth(self, name, grouping='block'):
        """With a downsampling goes the block after it; what follows the stages is deepest.

        ``'block'`` counts every block, and the stem goes with the first: there is no depth 0 (FCMAE's fine-tuning of
        the small sizes, ``single`` in the official ``optim_factory.py``). ``'group'`` has the stem at 0 and the 12
        groups of ConvNeXt's recipes (arXiv:2201.03545, appendix A.1; BEiT's rule): stages 1 and 2, each three blocks of
        stage 3, and stage 4, which is the twelfth.
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

    def _levels(self, x, packing):
        """Outputs of the stem (-1) and the stages, packed, from packed images."""
        levels = {-1: (x := self.body.stem(x))}  # (B, C, V*u, u)
        for i, stage in enumerate(self.body.stages):
            x = stage.downsample(x)
            for block in stage.blocks:
                if self.with_cp and self.training:
                    x = checkpoint(self._block, block, x, packing, use_reentrant=False)
                else:
                    x = self._block(block, x, packing)
            levels[i] = x
        levels[len(self.body.stages) - 1] = self.body.norm_pre(x)
        return levels

    def _block(self, block, shortcut, packing):
        """timm's block on packed cells (B, C, V*u, u)."""
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


def _refuse_overlap(arch, body):
    """All but the depthwise convolutions must stay within a cell, and those keep the resolution."""
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


def _levels(body):
    """Channels and strides of the stem and of each stage."""
    channels, strides = [body.stem[0].out_channels], [body.stem[0].stride[0]]
    for stage in body.stages:
        step = stage.downsample[1].stride[0] if isinstance(stage.downsample, nn.Sequential) else 1
        channels.append(stage.blocks[-1].conv_dw.out_channels)
        strides.append(strides[-1] * step)
    return channels, strides
