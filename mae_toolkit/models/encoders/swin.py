"""Swin V1 and V2 of timm, on the visible cells alone or with a mask token."""

from functools import partial

import torch
from timm.layers import LayerNorm2d
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import pack, unpack
from mae_toolkit.models.encoders.encoder import Encoder
from mae_toolkit.models.encoders.timm_body import check_frozen, check_indices, create_body
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.padding import crop_map, pad_to_multiple
from mae_toolkit.models.layers.window_attention import attend_visible, attend_whole, swin_bias
from mae_toolkit.models.layers.windows import apart, plan_windows
from mae_toolkit.models.mask_ops import grid_of, upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class Swin(Encoder):
    """Any ``SwinTransformer`` or ``SwinTransformerV2`` of timm (arXiv:2103.14030, arXiv:2111.09883).

    By default only visible cells are computed: layers per token and patch merging run on packed cells, attention goes
    over the visible tokens of each window (as in GreenMIM, arXiv:2205.13515, but every image has its own mask, and
    windows lie where Swin has them). With a mask token everything is computed, as in SimMIM (arXiv:2111.09886). Images
    of any size are padded to a multiple of the deepest stride; windows that reach beyond a map are padded first and
    then shifted, as in MMDetection, where timm does it the other way round. As there, the padding of a whole map takes
    part in attention, so that where windows do not divide a map, hiding nothing is not the same as ``mask=None``.

    Args:
        arch (str): Name in timm, such as ``'swin_base_patch4_window7_224'``.
        in_chans (int): Channels of the images.
        img_size (int | tuple[int, int]): Pixels; a window is no larger than the map of such an image.
        mask_token (bool): Put a learned token where it is hidden, and compute everything.
        out_indices (tuple[int, ...] | None): Stages whose output is returned, -1 for the embedded input; the last one
            by default. Stages after the last index are not built.
        final_norm (bool): Apply the architecture's last norm to the last stage.
        out_norms (bool): Layer norm of each output, as detectors and segmenters use it.
        norm_eps (float | None): Epsilon of all layer norms; the architecture's own, 1e-5, by default.
        frozen_stages (int): The embedding and so many stages after it are frozen; -1 for nothing.
        with_cp (bool): Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg (dict | None): See :class:`Encoder`.
        **kwargs: To timm, such as ``window_size``, ``depths``, ``embed_dim``, ``drop_path_rate``.

    Raises:
        UserError: If the architecture is unknown, or an index is out of range.
    """

    def __init__(
        self,
        arch='swin_tiny_patch4_window7_224',
        in_chans=3,
        img_size=224,
        mask_token=False,
        out_indices=None,
        final_norm=True,
        out_norms=False,
        norm_eps=None,
        frozen_stages=-1,
        with_cp=False,
        init_cfg=None,
        **kwargs,
    ):
        super().__init__(init_cfg)
        kinds = (SwinTransformer, SwinTransformerV2)
        self.body = body = create_body(arch, kinds, 'swin', in_chans=in_chans, img_size=img_size, **kwargs)
        self.architecture_names = frozenset(body.state_dict())
        self.num_levels = len(body.layers)
        self.out_indices = check_indices(out_indices, self.num_levels, 'stages')
        self.in_chans, self.with_cp, self.fills_hidden = in_chans, with_cp, mask_token
        last = max(self.out_indices)
        if last < len(body.layers) - 1 or not final_norm:
            body.norm = nn.Identity()
        self.ends_with_norm = not isinstance(body.norm, nn.Identity)
        body.layers, body.head = body.layers[: last + 1], nn.Identity()
        patch = body.patch_embed.patch_size[0]
        if tuple(body.patch_embed.patch_size) != (patch, patch):
            raise UserError(f'Swin has square patches here, not patch_size={tuple(body.patch_embed.patch_size)}.')
        channels = [body.embed_dim, *(stage.blocks[0].dim for stage in body.layers)]
        strides = [patch, *(patch * 2**i for i in range(len(body.layers)))]
        self.out_channels = tuple(channels[i + 1] for i in self.out_indices)
        self.out_strides = tuple(strides[i + 1] for i in self.out_indices)
        self.mask_unit, self.token_unit = strides[-1], patch if mask_token else None
        self.out_norms = nn.ModuleList(LayerNorm2d(c) if out_norms else nn.Identity() for c in self.out_channels)
        if mask_token:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(body.embed_dim), std=0.02))
        for norm in self.modules() if norm_eps is not None else ():
            if isinstance(norm, nn.LayerNorm):
                norm.eps = norm_eps
        frozen_stages = check_frozen(frozen_stages, len(body.layers), 'stages')
        if frozen_stages >= 0:
            self.freeze([body.patch_embed, *body.layers[:frozen_stages]])
            for token in [self.mask_token] if mask_token else []:
                token.requires_grad_(False)

    def _encode(self, imgs, cells):
        """Encode the visible cells, or all with the mask token; see :meth:`Encoder.encode`."""
        size = imgs.shape[-2:]
        packing = None if cells is None or self.fills_hidden else cells.visible()
        imgs = pad_to_multiple(imgs, self.mask_unit) if cells is None else imgs
        grid_of(imgs, self.mask_unit)  # refuses what smaller cells of a mask divide
        plans = None if packing is None else self._plan(packing, imgs.shape[-2:])
        x = self.body.patch_embed.proj(pack(imgs, packing)).permute(0, 2, 3, 1)  # (B, h, w, C) or (B, V*u, u, C)
        x = self.body.patch_embed.norm(x)
        if self.fills_hidden and cells is not None:
            hidden = upsample(cells.mask, x.shape[1:3]).permute(0, 2, 3, 1)  # (B, h, w, 1)
            x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        return self._features(self._levels(x, imgs.shape[-2:], plans), size, packing)

    def layer_depth(self, name, grouping='block'):
        """Embedding and mask token 0, blocks counted over all stages, a patch merging with the block before it.

        The rule of SimMIM's fine-tuning (arXiv:2111.09886, appendix A.2).
        """
        depths = [len(stage.blocks) for stage in self.body.layers]
        deepest = sum(depths) + 1
        parts = name.removeprefix('body.').split('.')
        if parts[0] != 'layers':
            return (0 if parts[0] in ('patch_embed', 'mask_token') else deepest), deepest
        block = int(parts[3]) + 1 if parts[2] == 'blocks' else 0
        return sum(depths[: int(parts[1])]) + block, deepest

    def _features(self, levels, size, packing=None):
        """What is returned of the levels, for images that had this size before they were padded."""
        outputs = (
            norm(levels[i].permute(0, 3, 1, 2)) for norm, i in zip(self.out_norms, self.out_indices, strict=True)
        )
        maps = [crop_map(unpack(x, packing), size, stride) for x, stride in zip(outputs, self.out_strides, strict=True)]
        return Features(tuple(maps), (None,) * len(maps))

    def _levels(self, x, size, plans):
        """Outputs of the embedding (-1) and the stages, packed, from embedded and packed images (B, V*u, u, C)."""
        levels = {-1: x}
        for i, stage in enumerate(self.body.layers):
            x = stage.downsample(x)
            attentions = self._attentions(i, size, x.device) if plans is None else plans[i]
            for block, shift in zip(stage.blocks, self._shifts(i, size), strict=True):
                attend = attentions[shift]
                if self.with_cp and self.training:
                    x = checkpoint(_run, block, x, attend, use_reentrant=False)
                else:
                    x = _run(block, x, attend)
            levels[i] = x
        levels[len(self.body.layers) - 1] = self.body.norm(x)
        return levels

    def _attentions(self, i, size, device):
        """The attentions of a stage by their shift, over whole maps of images of this size."""
        side, window = self._map(i, size), self.body.layers[i].blocks[0].attn.window_size
        whole = partial(attend_whole, window=window, bias=swin_bias)
        shifts = set(self._shifts(i, size))
        return {shift: partial(whole, shift=shift, apart=apart(side, window, shift, device)) for shift in shifts}

    @torch.compiler.disable  # it waits for the device, once
    def _plan(self, packing, size):
        """Per stage, the attentions over the visible tokens of its windows by their shift, for images of this size."""
        held, device = packing._replace(ids=packing.ids.cpu()), packing.ids.device
        stages = []
        for i, stage in enumerate(self.body.layers):
            side, window = self._map(i, size), stage.blocks[0].attn.window_size
            plans = {shift: plan_windows(held, side, window, shift, device) for shift in set(self._shifts(i, size))}
            stages.append({shift: partial(attend_visible, plan=p, bias=swin_bias) for shift, p in plans.items()})
        return stages

    def _shifts(self, i, size):
        """Per block of a stage; every second one shifts its windows, except where there is only one."""
        blocks = self.body.layers[i].blocks
        sides = zip(self._map(i, size), blocks[0].attn.window_size, strict=True)
        shifted = tuple(w // 2 if n > w else 0 for n, w in sides)
        return [shifted if k % 2 else (0, 0) for k in range(len(blocks))]

    def _map(self, i, size):
        """Rows and columns of the map of a stage."""
        return tuple(n // (self.body.patch_embed.patch_size[0] << i) for n in size)


def _run(block, x, attend):
    """timm's block on tokens (B, h, w, C), with attention of our own; V2 norms what V1 norms before."""
    if isinstance(block, SwinTransformerV2Block):
        x = x + block.drop_path1(block.norm1(attend(block.attn, x)))
        return x + block.drop_path2(block.norm2(block.mlp(x)))
    x = x + block.drop_path1(attend(block.attn, block.norm1(x)))
    return x + block.drop_path2(block.mlp(block.norm2(x)))
