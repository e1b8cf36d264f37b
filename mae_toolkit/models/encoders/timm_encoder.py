"""The base class of encoders that run an architecture of timm."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mae_toolkit.models.cells import Cells, Packing, unpack
from mae_toolkit.models.encoders.encoder import Encoder
from mae_toolkit.models.encoders.timm_body import check_indices
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.recompute import Recomputing
from mae_toolkit.timm_models import TimmModule


class TimmEncoder(Recomputing, Encoder):
    """An encoder whose layers are those of a timm model, which computes only what is visible.

    A subclass makes the model, hands it to :meth:`set_body`, and writes :meth:`~Encoder.stages` so::

        packing = self.packing(cells)
        x = pack(x, packing)    # (B, C, V*u, u), or whole images without a packing
        levels = ...            # outputs by index, -1 for the embedded input, (B, C, V*u, u)
        return self.outputs(levels, packing)

    Args:
        init_cfg: See :class:`Encoder`.

    Attributes:
        timm_classes: Classes of timm that the encoder runs, to suggest it for an architecture; empty if it runs many.
        body: The timm model, whose parameters keep their names.
        out_norms: A norm for each output.
        with_cp: Whether activations of the blocks are recomputed in the backward pass to save memory.
    """

    timm_classes: ClassVar[tuple[type, ...]] = ()
    body: TimmModule
    out_norms: nn.ModuleList
    skips_hidden = True
    optional_keys: tuple[str, ...] = ('out_norms.', 'body.norm.', 'mask_token')
    _frozen: tuple[str, ...] = ()
    _norm_eval = False

    def set_body(
        self, body: TimmModule, num_levels: int, out_indices: Sequence[int] | int | None, what: str = 'stages'
    ) -> None:
        """Take over a timm model, before anything of it is removed.

        Args:
            body: The model.
            num_levels: Levels that it has.
            out_indices: Those that are returned, -1 for the embedded input; the last one if None.
            what: What the levels are called.

        Raises:
            UserError: If an index is out of range.
        """
        self.body, self.num_levels = body, num_levels
        self.architecture_names = frozenset(body.state_dict())
        self.out_indices = check_indices(out_indices, num_levels, what)

    def set_norms(self, out_norms: bool) -> None:
        """Make a layer norm for each output, as detectors and segmenters use it, or none."""
        self.out_norms = nn.ModuleList(LayerNorm2d(c) if out_norms else nn.Identity() for c in self.out_channels)

    def packing(self, cells: Cells | None) -> Packing | None:
        """Return the packing of the visible cells; None, which packs everything, if all are computed."""
        return None if cells is None or self.fills_hidden else cells.visible()

    def outputs(self, levels: Mapping[int, Tensor], packing: Packing | None) -> Features:
        """Normalize and unpack the levels that are returned.

        Args:
            levels: Packed maps (B, C_i, V*u, u) by index.
            packing: What they hold.
        """
        norms = zip(self.out_norms, self.out_indices, strict=True)
        return Features.from_maps(unpack(norm(levels[i]), packing) for norm, i in norms)

    def freeze(self, modules: Iterable[nn.Module], norm_eval: bool = False) -> None:
        """Freeze modules for good: no gradient, and evaluation mode whatever the mode of the encoder.

        They are remembered by name, so that a batch norm that is exchanged for a synchronized one stays frozen.

        Args:
            modules: Parts of this encoder.
            norm_eval: Whether batch norms of the whole encoder keep their running statistics, too.
        """
        modules = tuple(modules)
        for module in modules:
            module.requires_grad_(False)
        names = {module: name for name, module in self.named_modules()}
        self._frozen, self._norm_eval = tuple(names[module] for module in modules), norm_eval
        self.train(self.training)

    def train(self, mode: bool = True) -> 'TimmEncoder':
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        norms = (m for m in self.modules() if isinstance(m, _BatchNorm)) if self._norm_eval else ()
        for module in (*map(self.get_submodule, self._frozen), *norms):
            module.eval()
        return self

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that should not be decayed, whatever their shape.

        They are those that timm names (tables of positions, tokens), and the encoder's own of these kinds.
        """
        named = {f'body.{name}' for name in getattr(self.body, 'no_weight_decay', set)()}
        own = {name for name, _ in self.named_parameters()}
        return {name for name in own if name in named or name.startswith(('mask_token', 'rel_pos.', 'positions.'))}
