"""Plain vision transformers of timm that compute only the visible tokens."""

import torch
from timm.layers import PatchEmbed, RmsNorm, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders.encoder import Encoder, Features
from mae_toolkit.models.encoders.timm_body import check_indices, class_of, create_body
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.positions import sincos_positions
from mae_toolkit.models.mask_ops import gather_tokens, grid_of, scatter_tokens, to_map, visible_ids
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class ViT(Encoder):
    """Any ``VisionTransformer`` of timm; hidden tokens are left out before the first block.

    Masked as in MAE (arXiv:2111.06377, section 3). With nothing hidden the result equals timm's
    ``forward_intermediates``. Positions are resized to the input.

    Args:
        arch (str): Name in timm, such as ``'vit_base_patch16_224'``.
        in_chans (int): Channels of the images.
        img_size (int | tuple[int, int]): Pixels for which positions are stored; any other size resizes them.
        positions (str): ``'sincos'`` (fixed) or ``'learned'``.
        out_indices (tuple[int, ...] | None): Blocks whose output is returned, -1 for the embedded input; the last one
            by default. Blocks after the last index are not built.
        final_norm (bool): Apply the architecture's last norm to each output, as timm's ``norm=True``.
        norm_eps (float | None): Epsilon of all norms; the architecture's own by default.
        with_cp (bool): Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg (dict | None): See :class:`Encoder`.
        **kwargs: To timm, such as ``patch_size``, ``depth``, ``embed_dim``, ``reg_tokens``, ``drop_path_rate``;
            not what the encoder decides itself.

    Raises:
        UserError: If the architecture is unknown or embeds positions in its own way, or an index is out of range.
    """

    def __init__(
        self,
        arch='vit_base_patch16_224',
        in_chans=3,
        img_size=224,
        positions='sincos',
        out_indices=None,
        final_norm=True,
        norm_eps=None,
        with_cp=False,
        init_cfg=None,
        **kwargs,
    ):
        super().__init__(init_cfg)
        self.body = _create(arch, in_chans=in_chans, img_size=img_size, norm_eps=norm_eps, **kwargs)
        self.architecture_names = frozenset(self.body.state_dict())
        depth, patch = len(self.body.blocks), self.body.patch_embed.proj.kernel_size[0]
        self.out_indices = check_indices(out_indices, depth, 'blocks')
        self.in_chans, self.with_cp = in_chans, with_cp
        self.out_channels = (self.body.embed_dim,) * len(self.out_indices)
        self.out_strides = (patch,) * len(self.out_indices)
        self.mask_unit = patch
        self.grid = self.position_grid = tuple(self.body.patch_embed.grid_size)
        self.body.blocks = self.body.blocks[: max(self.out_indices) + 1]
        if not final_norm:
            self.body.norm = nn.Identity()
        self._draw(positions)

    def encode(self, imgs, mask=None, num_visible=None):
        """Encode the visible patches; see :meth:`Encoder.encode`."""
        size = grid_of(imgs, self.mask_unit)
        ids = visible_ids(mask, size, num_visible)
        x = self._embed(imgs, ids, size)  # (B, P+V, C)
        levels = {-1: x}
        for i, block in enumerate(self.body.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.with_cp and self.training else block(x)
            levels[i] = x
        return self._features([self.body.norm(levels[i]) for i in self.out_indices], ids, size)

    def layer_depth(self, name, grouping='block'):
        """Embedding and positions 0, block i at i + 1, what follows at the number of blocks + 1 (BEiT's rule)."""
        depth = len(self.body.blocks)
        parts = name.removeprefix('body.').split('.')
        if parts[0] == 'blocks':
            return int(parts[1]) + 1, depth + 1
        embedding = parts[0] in ('patch_embed', 'pos_embed', 'cls_token', 'reg_token', 'norm_pre')
        return 0 if embedding else depth + 1, depth + 1

    def _embed(self, imgs, ids, size):
        """Visible patches and prefix tokens with their positions: (B, P+V, C)."""
        body = self.body
        proj = body.patch_embed.proj
        patches = gather_tokens(_patchify(imgs, self.mask_unit), ids)  # (B, V, c p p)
        x = body.patch_embed.norm(nn.functional.linear(patches, proj.weight.flatten(1), proj.bias))  # (B, V, C)
        place, prefix_place = self._positions(size)
        if place is not None:
            x = x + gather_tokens(place.expand(len(x), -1, -1), ids)
        prefix = [token for token in (body.cls_token, body.reg_token) if token is not None]
        if prefix:
            prefix = torch.cat(prefix, dim=1) + prefix_place
            x = torch.cat([prefix.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        return body.norm_pre(body.pos_drop(x))

    def _positions(self, size):
        """Positions (1, L, C) of a map of the given size, or None, and of the prefix tokens (1, P, C), or zero."""
        body = self.body
        if body.pos_embed is None:
            return None, 0
        num_prefix = 0 if body.no_embed_class else body.num_prefix_tokens
        table = resample_abs_pos_embed(body.pos_embed, list(size), list(self.grid), num_prefix)
        return table[:, num_prefix:], table[:, :num_prefix] if num_prefix else 0

    def _features(self, levels, ids, size):
        num_prefix = self.body.num_prefix_tokens
        tokens = [scatter_tokens(x[:, num_prefix:], ids, size[0] * size[1]) for x in levels]
        prefixes = tuple(x[:, :num_prefix] if num_prefix else None for x in levels)
        return Features(tuple(to_map(x, size) for x in tokens), prefixes)

    @torch.no_grad()
    def _draw(self, positions):
        """Draw the weights as in MAE: Xavier-uniform layers, tokens N(0, .02), fixed or learned positions."""
        body = self.body
        init_transformer(body)
        for token in (body.cls_token, body.reg_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        if positions not in ('sincos', 'learned'):
            raise UserError(f'positions={positions!r} is neither "sincos" nor "learned".')
        if positions == 'sincos' and body.pos_embed is not None:
            table = sincos_positions(body.embed_dim, self.grid)
            body.pos_embed.zero_()[0, -len(table) :] = table
            body.pos_embed.requires_grad_(False)


def _patchify(imgs, p):
    """(B, C, H, W) -> (B, L, C*p*p): patches in raster order, each in the order (channel, row, column)."""
    b, c, height, width = imgs.shape
    x = imgs.reshape(b, c, height // p, p, width // p, p)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)


def _create(arch, norm_eps, **kwargs):
    """The timm model without its pooling and classifier, or a refusal."""
    kind = class_of(arch, 'vit_')
    own = [name for name in ('_pos_embed', 'forward_features') if _overrides(kind, name)]
    if own and issubclass(kind, VisionTransformer):
        raise UserError(
            f"ViT runs timm's VisionTransformer, but {arch!r} is a {kind.__name__}, which embeds its input in "
            'another way; choose an architecture such as vit_base_patch16_224.'
        )
    body = create_body(arch, (VisionTransformer,), 'vit_base_patch16', fixed={'fc_norm': False}, **kwargs)
    proj = getattr(body.patch_embed, 'proj', None)
    square = isinstance(proj, nn.Conv2d) and len(set(proj.kernel_size + proj.stride)) == 1
    if not square or not isinstance(body.patch_embed, PatchEmbed):  # the hybrids embed by a convolutional network
        raise UserError(f'ViT needs square patches that do not overlap, which {arch!r} does not have.')
    for norm in body.modules() if norm_eps is not None else ():
        if isinstance(norm, nn.LayerNorm | RmsNorm):
            norm.eps = norm_eps
    return body


def _overrides(kind, name):
    return getattr(kind, name, None) is not getattr(VisionTransformer, name)
