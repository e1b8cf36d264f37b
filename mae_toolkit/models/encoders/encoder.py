"""The base class of all encoders: what every encoder guarantees, and what its author writes."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mae_toolkit.checkpoints.channels import check_rule
from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.attention_places import AttentionPlaces
from mae_toolkit.models.layers.padding import crop_map, pad_to_multiple
from mae_toolkit.models.mask_ops import check_batch, check_cells, find_grid, hide
from mae_toolkit.registry import list_arguments


class Encoder(BaseModule):
    """Base class of the encoders, which turn the visible part of images into feature maps; also a backbone downstream.

    This class holds the guarantees: images and masks that do not fit are refused, images of any size are padded and
    their maps cropped, an encoder never sees hidden pixels, and its maps are exactly zero where hidden. A subclass
    holds the idea. It sets the attributes without a default below, and writes :meth:`stages` and, for fine-tuning with
    a learning rate per layer, :meth:`layer_depth`. For an architecture of timm derive from
    :class:`~mae_toolkit.models.encoders.timm_encoder.TimmEncoder`, which has more.

    Example, one convolution per patch::

        @MODELS.register_module()
        class PatchEncoder(Encoder):
            def __init__(self, in_chans: int = 3, channels: int = 64, patch: int = 8, init_cfg: dict | None = None):
                super().__init__(init_cfg)
                self.in_chans, self.out_channels, self.out_strides = in_chans, (channels,), (patch,)
                self.mask_unit = patch
                self.embed = nn.Conv2d(in_chans, channels, patch, stride=patch)

            def stages(self, x: Tensor, cells: Cells | None) -> Features:
                return Features.from_maps([self.embed(x)])

            def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
                return 0, 1

    The rule for authors: a visible position never learns where or whether anything is hidden, so that a hidden cell
    behaves like the outside of the image. Layers that work within a cell do so by themselves; what reaches across cells
    (overlapping convolutions, attention, norms over positions) has to leave hidden cells out, see
    :class:`~mae_toolkit.models.cells.Packing`. Nothing is stored on the module between calls.

    Args:
        init_cfg: ``dict(type='Pretrained', checkpoint=..., prefix='encoder')`` loads the encoder of a pretraining
            checkpoint, see :func:`~mae_toolkit.checkpoints.encoder.load_pretrained`; ``channels='sum'`` beside them
            adapts weights of images with other channels, see :mod:`mae_toolkit.checkpoints.channels`.

    Attributes:
        in_chans: Channels of the images.
        out_channels: Channels of each level of the output, from fine to coarse.
        out_strides: Pixels per position of each level.
        mask_unit: Smallest legal mask unit in pixels, which all strides divide; its multiples are legal, too.
        num_levels: Levels that the architecture has. Where there are several, the constructor takes ``out_indices``,
            numbers from 0 to one less: EMATarget and ``fit_encoder`` set it.
        out_indices: The levels that are returned, -1 for the embedded input.
        grid: Rows and columns, at the last stride, of an image of the size for which positions are stored; None if no
            positions are.
        position_grid: Rows and columns of the table of positions that is stored, or None.
        fills_hidden: Whether hidden cells of the maps are filled, as by a mask token; they are zero otherwise.
        skips_hidden: Whether :meth:`stages` leaves hidden cells out by itself, so that none has to be set to zero.
        sees_hidden: Whether images show something else where hidden, as mixtures of two images do; hidden pixels are
            set to zero otherwise.
        token_unit: Smallest mask unit in pixels for the mask token, where that is less than ``mask_unit``.
        ends_with_norm: Whether the last output has passed a norm of the architecture, so that a classifier needs none
            before its linear layer.
        has_class_token: Whether the first prefix token is a class token.
        optional_keys: Starts of the names of parameters that some configurations of an architecture have and others
            lack.
        architecture_names: Names of all parameters of the architecture, built here or not.

    Raises:
        UserError: If ``init_cfg`` asks for anything else.
    """

    in_chans: int
    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]
    mask_unit: int
    num_levels: int = 1
    out_indices: tuple[int, ...] = (0,)
    grid: tuple[int, int] | None = None
    position_grid: tuple[int, int] | None = None
    fills_hidden: bool = False
    skips_hidden: bool = False
    sees_hidden: bool = False
    token_unit: int | None = None
    ends_with_norm: bool = False
    has_class_token: bool = False
    optional_keys: tuple[str, ...] = ('mask_token',)
    architecture_names: frozenset[str] = frozenset()

    def __init__(self, init_cfg: dict | None = None) -> None:
        keys = set(init_cfg) if isinstance(init_cfg, dict) else None
        known = keys is not None and {'type', 'checkpoint'} <= keys <= {'type', 'checkpoint', 'prefix', 'channels'}
        if init_cfg is not None and not (known and init_cfg['type'] == 'Pretrained'):
            raise UserError(
                "init_cfg of an encoder is dict(type='Pretrained', checkpoint=..., prefix='encoder') or None, not "
                f'{init_cfg!r}: without weights to load, they are drawn as the architecture has them.'
            )
        if init_cfg is not None:
            check_rule(init_cfg.get('channels'), 'init_cfg.channels')
        super().__init__(init_cfg)

    @classmethod
    def downstream(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Turn a pretraining config of this class into that of a detector's, segmenter's or classifier's encoder.

        Arguments for hidden cells alone, such as a mask token, and the choice of levels are left out.

        Args:
            config: The config, which is not changed.

        Returns:
            The config, in which arguments that it does not name have their defaults.
        """
        return {key: value for key, value in config.items() if key not in ('mask_token', 'out_indices', 'init_cfg')}

    @classmethod
    def select_levels(cls, config: dict[str, Any], indices: Sequence[int]) -> dict[str, Any]:
        """Add the levels that the encoder is to return to a config of this class.

        An encoder of a single level needs no argument ``out_indices``.

        Args:
            config: The config, which is not changed.
            indices: For ``out_indices``.

        Raises:
            UserError: If the class has no such argument and other levels than the first are wanted.
        """
        if 'out_indices' in list_arguments(cls):
            return config | {'out_indices': tuple(indices)}
        if tuple(indices) != (0,):
            raise UserError(
                f'{cls.__name__} has no argument out_indices, by which it would return the levels {tuple(indices)}: '
                'add it to the constructor.'
            )
        return config

    @property
    def pad_unit(self) -> int:
        """Pixels to a multiple of which the sides of whole images are padded."""
        return self.mask_unit

    def encode(self, imgs: Tensor, cells: Cells | None = None) -> Features:
        """Encode the visible part of images.

        Args:
            imgs: (B, C, H, W).
            cells: The cells that are hidden; None for whole images, which may have any size.

        Returns:
            Maps (B, C_i, H/s_i, W/s_i) and prefix tokens per level. Maps are zero where hidden, unless the encoder
            fills hidden cells itself.

        Raises:
            UserError: If the images are no batch or have other channels, or the mask does not belong to them.
        """
        check_batch(imgs)
        if imgs.shape[1] != self.in_chans:
            raise UserError(f'The images have {imgs.shape[1]} channels, the encoder takes in_chans={self.in_chans}.')
        if cells is None:
            return self._crop(self.stages(pad_to_multiple(imgs, self.pad_unit), None), imgs.shape[-2:])
        check_cells(cells.mask, imgs, 1 if self.fills_hidden else self.mask_unit)
        find_grid(imgs, self.mask_unit)  # cells of a mask token may be smaller, and divide other images
        features = self.stages(imgs if self.sees_hidden else hide(imgs, cells.mask), cells)
        if self.fills_hidden or self.skips_hidden:
            return features
        return Features(tuple(hide(x, cells.mask) for x in features.maps), features.prefixes)

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Run the architecture; the author of an encoder writes this method.

        Args:
            x: Images (B, C, H, W), whose sides are multiples of the mask unit; zero where hidden.
            cells: The cells that are hidden, or None for whole images.

        Returns:
            Maps (B, C_i, H/s_i, W/s_i) and prefix tokens per level; what the maps hold in hidden cells does not matter.
        """
        raise NotImplementedError

    def forward(self, imgs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the feature maps of images: what MMDetection and MMSegmentation expect of a backbone.

        Args:
            imgs: (B, C, H, W).
            mask: (B, 1, h, w) bool, True = hidden; None for whole images.
        """
        return self.encode(imgs, None if mask is None else Cells(mask)).maps

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest depth, for layer-wise learning rate decay.

        Args:
            name: Name of the parameter within the encoder.
            grouping: What counts as a layer.

        Returns:
            (depth, greatest depth); the embedding has depth 0.
        """
        raise NotImplementedError

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the modules that hold most of the parameters, in the order in which they run.

        :class:`~mae_toolkit.engine.fsdp.FSDP2` gathers their parameters one after another. :meth:`stages` has to call
        each as a module, or by :meth:`~mae_toolkit.models.layers.recompute.Recomputing.run`. An encoder that names
        none has all its parameters gathered at once.
        """
        return ()

    def place_attention(self, size: Sequence[int]) -> Sequence[AttentionPlaces]:
        """Say where the tokens of each attention lie, in the order in which whole images run through them.

        Each is one call of ``scaled_dot_product_attention``, so that it can be watched. An encoder that has none, or
        does not say it, returns nothing.

        Args:
            size: Pixels of the images, multiples of :attr:`pad_unit`.
        """
        return ()

    def for_inference(self) -> 'Encoder':
        """Return an encoder that makes the same maps of whole images faster, up to rounding; itself if there is none.

        It does not follow later changes of this one, and is not to be trained.
        """
        return self

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that should not be decayed, whatever their shape."""
        return {name for name, _ in self.named_parameters() if name.startswith('mask_token')}

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names; else do nothing, as weights are drawn at construction.

        MMEngine's own would redraw the weights of the architecture.
        """
        if self.init_cfg is not None and not self.is_init:
            load_pretrained(self, **{key: value for key, value in self.init_cfg.items() if key != 'type'})
        self._is_init = True

    def _crop(self, features: Features, size: Sequence[int]) -> Features:
        """Cut maps to the part that belongs to images of ``size`` pixels before they were padded."""
        maps = zip(features.maps, self.out_strides, strict=True)
        return Features(tuple(crop_map(x, size, stride) for x, stride in maps), features.prefixes)
