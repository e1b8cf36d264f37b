"""Models of timm as they are, for whole images."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models.encoders.timm_body import create_body
from mae_toolkit.protocols import HasIntermediates
from mae_toolkit.timm_models import find_timm_class


class TimmNetwork(nn.Module):
    """Any model of timm that gives intermediate features, as maps of whole images.

    It has the attributes that a :class:`~mae_toolkit.models.teacher.Teacher` reads of an encoder. It covers more
    architectures than our encoders, but sees no masks and cannot be trained here.

    Args:
        arch: Name in timm.
        in_chans: Channels of the images.
        out_indices: Levels, as timm's ``forward_intermediates`` counts them; the last by default.
        final_norm: Apply the final norm of the architecture, timm's ``norm=True``.
        projection: Outputs of the architecture's ``head``, which is then applied to each position of the last level:
            512 for the space that CLIP's ViT-B shares with texts.
        **kwargs: Arguments of timm's model, such as ``img_size``.

    Raises:
        UserError: If timm does not know the architecture, or it gives no maps.
    """

    fills_hidden = False
    optional_keys: tuple[str, ...] = ()
    body: Any  # of one of many classes
    in_chans: int
    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]
    options: dict[str, Any]
    projected: bool

    def __init__(
        self,
        arch: str,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        final_norm: bool = True,
        projection: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        kind = find_timm_class(arch, '')
        if not issubclass(kind, HasIntermediates):
            raise UserError(f"timm's {kind.__name__} gives no intermediate features of {arch!r}; try SparseCNN for it.")
        any_size = 'dynamic_img_size' in inspect.signature(kind.__init__).parameters
        given = dict(fixed={'dynamic_img_size': True} if any_size else {}, in_chans=in_chans, **kwargs)
        self.body = create_body(arch, (nn.Module,), '', **given)
        self.architecture_names = frozenset(self.body.state_dict())
        self.in_chans = in_chans
        self.options = dict(indices=1 if out_indices is None else list(out_indices), norm=final_norm)
        self.position_grid = getattr(getattr(self.body, 'patch_embed', None), 'grid_size', None)
        with torch.device('meta'):
            probe = create_body(arch, (nn.Module,), '', **given).eval()
        self.out_channels, self.out_strides = self._measure(arch, probe, in_chans)
        if projection is not None:
            self.body.head = nn.Linear(self.out_channels[-1], projection)
            self.out_channels = (*self.out_channels[:-1], projection)
        self.projected = projection is not None

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps (B, C_i, H/s_i, W/s_i) of each level of images (B, C, H, W)."""
        *first, last = self._maps(self.body, imgs)
        last = self.body.head(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if self.projected else last
        return (*first, last)

    def _maps(self, body: Any, imgs: Tensor) -> list[Tensor]:
        return body.forward_intermediates(imgs, output_fmt='NCHW', intermediates_only=True, **self.options)

    def _measure(self, arch: str, probe: Any, in_chans: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Measure channels and strides of the levels on an image of the size for which timm built the model."""
        size = getattr(getattr(probe, 'patch_embed', None), 'img_size', None) or probe.pretrained_cfg['input_size'][1:]
        with wrap_build_error(f'{arch!r} with {self.options}'):
            maps = self._maps(probe, torch.zeros(1, in_chans, *size, device='meta'))
        for x in maps:
            if size[0] % x.shape[2] or size[0] // x.shape[2] != size[1] // x.shape[3]:
                raise UserError(
                    f'{arch!r} makes a map of {x.shape[2]} x {x.shape[3]} of {size[0]} x {size[1]} pixels, so its '
                    'stride is not a whole number: choose another network or level.'
                )
        return tuple(x.shape[1] for x in maps), tuple(size[0] // x.shape[2] for x in maps)
