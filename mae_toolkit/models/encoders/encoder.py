"""Base class of the encoders."""

from mmengine.model import BaseModule
from torch.nn.modules.batchnorm import _BatchNorm

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.mask_ops import check_cells


class Encoder(BaseModule):
    """An architecture of timm that computes only what is visible, and the backbone of detectors and segmenters.

    A subclass sets the attributes and writes :meth:`_encode` and :meth:`layer_depth`.

    Args:
        init_cfg (dict | None): ``dict(type='Pretrained', checkpoint=..., prefix='encoder')`` loads the encoder of a
            pretraining checkpoint, see :func:`~mae_toolkit.checkpoints.encoder.load_pretrained`.

    Attributes:
        body (nn.Module): The timm model, whose parameters keep their names.
        in_chans (int): Channels of the images.
        out_channels (tuple[int, ...]), out_strides (tuple[int, ...]): Per level of the output.
        num_levels (int): Levels that the architecture has: ``out_indices`` may name 0 to one less.
        mask_unit (int): Smallest legal mask unit in pixels; multiples are legal.
        grid (tuple[int, int] | None): Rows and columns, at the last stride, of an image of the size for which positions
            are stored.
        position_grid (tuple[int, int] | None): Rows and columns of the table of positions that is stored.
        fills_hidden (bool): True for an encoder that puts a mask token where it sees nothing.
        ends_with_norm (bool): Whether the last output has passed a norm of the architecture, so that a classifier needs
            none before its linear layer.
        token_unit (int | None): Smallest mask unit in pixels for its mask token, where that is less than ``mask_unit``.
        optional_keys (tuple[str, ...]): Beginnings of the names of what one configuration of an architecture has and
            another has not.
        architecture_names (frozenset[str]): Names in the whole timm model, built here or not.

    Raises:
        UserError: If ``init_cfg`` asks for anything else.
    """

    fills_hidden = False
    ends_with_norm = False
    token_unit = None
    optional_keys = ('out_norms.', 'body.norm.', 'mask_token')
    architecture_names = frozenset()
    grid = position_grid = None
    _frozen, _norm_eval = (), False

    def __init__(self, init_cfg=None):
        keys = set(init_cfg) if isinstance(init_cfg, dict) else None
        known = keys is not None and {'type', 'checkpoint'} <= keys <= {'type', 'checkpoint', 'prefix'}
        if init_cfg is not None and not (known and init_cfg['type'] == 'Pretrained'):
            raise UserError(
                "init_cfg of an encoder is dict(type='Pretrained', checkpoint=..., prefix='encoder') or None, not "
                f'{init_cfg!r}: without weights to load, they are drawn as the architecture has them.'
            )
        super().__init__(init_cfg)

    @classmethod
    def downstream(cls, config):
        """A pretraining config of this class as detectors, segmenters and classifiers have it.

        What is for hidden cells alone is left out, such as a mask token, and so is which levels were returned.

        Args:
            config (dict): Not changed.

        Returns:
            dict: The config, in which unnamed arguments have their defaults.
        """
        return {key: value for key, value in config.items() if key not in ('mask_token', 'out_indices', 'init_cfg')}

    def encode(self, imgs, cells=None):
        """Encode the visible part of images.

        Args:
            imgs (Tensor): (B, C, H, W), zero where hidden.
            cells (Cells | None): What is hidden; None for whole images.

        Returns:
            Features: maps and prefix tokens per level.

        Raises:
            UserError: If the images have other channels, or the mask does not belong to them.
        """
        if imgs.shape[1] != self.in_chans:
            raise UserError(f'The images have {imgs.shape[1]} channels, the encoder takes in_chans={self.in_chans}.')
        if cells is not None:
            check_cells(cells.mask, imgs, 1 if self.fills_hidden else self.mask_unit)
        return self._encode(imgs, cells)

    def _encode(self, imgs, cells):
        """What :meth:`encode` does, on images and cells that fit."""
        raise NotImplementedError

    def forward(self, imgs, mask=None):
        """Feature maps as a tuple: what MMDetection and MMSegmentation expect of a backbone."""
        return self.encode(imgs, None if mask is None else Cells(mask)).maps

    def freeze(self, modules, norm_eval=False):
        """Freeze modules for good: no gradient, and evaluation mode whatever the mode of the encoder.

        They are remembered by name, so that a batch norm that is exchanged for a synchronized one stays frozen.

        Args:
            modules (list[nn.Module]): Parts of this encoder.
            norm_eval (bool): Batch norms of the whole encoder keep their running statistics, too.
        """
        for module in modules:
            module.requires_grad_(False)
        names = {module: name for name, module in self.named_modules()}
        self._frozen, self._norm_eval = tuple(names[module] for module in modules), norm_eval
        self.train(self.training)

    def train(self, mode=True):
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        norms = (m for m in self.modules() if isinstance(m, _BatchNorm)) if self._norm_eval else ()
        for module in (*map(self.get_submodule, self._frozen), *norms):
            module.eval()
        return self

    def layer_depth(self, name, grouping='block'):
        """Depth of a parameter and the greatest depth, for layer-wise learning rate decay.

        Args:
            name (str): Name of the parameter within the encoder.
            grouping (str): What counts as a layer.

        Returns:
            tuple[int, int]: (depth, max depth); the embedding has depth 0.
        """
        raise NotImplementedError

    def no_weight_decay(self):
        """Names of the parameters that the architecture wants not to be decayed, whatever their shape.

        They are those that timm names (tables of positions, tokens), and the encoder's own of these kinds.
        """
        names = {f'body.{name}' for name in getattr(self.body, 'no_weight_decay', set)()}
        own = {name for name, _ in self.named_parameters() if name.startswith(('mask_token', 'rel_pos.'))}
        return {name for name, _ in self.named_parameters() if name in names} | own

    def init_weights(self):
        """Load what ``init_cfg`` names; else do nothing, as weights are drawn at construction.

        MMEngine's own would redraw the weights of the body.
        """
        if self.init_cfg is not None and not self.is_init:
            load_pretrained(self, **{key: value for key, value in self.init_cfg.items() if key != 'type'})
        self._is_init = True
