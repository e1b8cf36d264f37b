"""Make the parts of a masked autoencoder that are timed, and the dense networks beside them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, NamedTuple, cast

import timm
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mae_toolkit.benchmarks.masked_dense import channels_first, has_channels_first, has_masked_dense, masked_dense
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.models.build import build_model
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.compile import compile_parts
from mae_toolkit.models.decoders import UNetDecoder
from mae_toolkit.models.encoders.timm_body import find_timm_arguments
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import list_arguments

NAMES = {
    'step': 'training step',
    'forward': 'forward',
    'encoder': 'encoder',
    'decoder': 'decoder',
    'dense': 'timm dense encoder',
    'masked-dense': 'masked dense encoder',
    'reference-step': 'reference step',
}


Autocast = Callable[[], AbstractContextManager]


class Part(NamedTuple):
    """Something to time.

    Attributes:
        name: Its name in tables.
        run: A function that does it once.
        images: How many images that handles.
    """

    name: str
    run: Callable[[], Any]
    images: int


class BenchmarkedModel:
    """A model of a config on random images, with functions that can be timed.

    Each part draws its own mask, as training does.

    Args:
        cfg: A config of pretraining.
        batch: Images per step.
        size: Pixels of the images, of their sides or of height and width; None for the ``img_size`` of the encoder, or
            else 224.
        device: Where it runs.
        chosen: Keys of :data:`NAMES`; what a config does not offer is left out.

    Attributes:
        visible: Visible part of the cells, between 0 and 1.
        size: Height and width of the images.
    """

    def __init__(
        self, cfg: Config, batch: int, size: int | Sequence[int] | None, device: torch.device, chosen: Iterable[str]
    ) -> None:
        self.size = parse_size(size or cfg.model.encoder.get('img_size', 224))
        self.model = cast(MaskedAutoencoder, build_model(cfg).to(device).train())
        self.imgs = torch.randn(batch, self.model.encoder.in_chans, *self.size, device=device)
        cells = self.model.draw_cells(self.imgs)
        self.visible = cells.num_visible / cells.mask[0].numel()
        self.optimizer = _build_optimizer(cfg, self.model)
        self.dense = _build_dense(cfg, self.model.encoder, self.size, device) if 'dense' in chosen else None
        masked = has_masked_dense(self.model.encoder)
        offered = {'dense': self.dense is not None, 'masked-dense': masked}
        offered['reference-step'] = masked and has_channels_first(self.model.decoder)
        self.reference: MaskedAutoencoder | None = None
        self.reference_optimizer: torch.optim.Optimizer | None = None
        if offered['reference-step'] and 'reference-step' in chosen:
            self.reference = deepcopy(self.model).to(memory_format=torch.contiguous_format)  # kernels channels first
            self.reference_optimizer = _build_optimizer(cfg, self.reference)
        self.chosen = [key for key in NAMES if key in chosen and offered.get(key, True)]

    def make_parts(self, dtype: torch.dtype) -> list[Part]:
        """Make the chosen parts in a type."""
        autocast = _make_autocast(self.imgs.device, dtype)
        makers = {
            'step': self._step,
            'forward': self._forward,
            'encoder': self._encoder,
            'decoder': self._decoder,
            'dense': self._dense_encoder,
            'masked-dense': self._masked_dense,
            'reference-step': self._reference_step,
        }
        return [Part(NAMES[key], makers[key](autocast), len(self.imgs)) for key in self.chosen]

    def compile(self, regions: str) -> None:
        """Compile the encoder, the decoder and the dense encoder; see :func:`compile_parts`."""
        compile_parts(self.model, regions)
        if self.dense is not None:
            self.dense.forward = torch.compile(self.dense.forward)

    def count_bytes(self) -> int:
        """Count the bytes of weights and optimizer state."""
        states = self.optimizer.state.values()
        state = [t for values in states for t in values.values() if isinstance(t, torch.Tensor)]
        return sum(t.nbytes for t in (*self.model.parameters(), *self.model.buffers(), *state))

    def _step(self, autocast: Autocast) -> Callable[[], None]:
        return _make_training_step(lambda: self.model(self.imgs, mode='loss'), self.optimizer, autocast)

    def _reference_step(self, autocast: Autocast) -> Callable[[], None]:
        model, optimizer = self.reference, self.reference_optimizer
        assert model is not None and optimizer is not None  # or this part was not chosen

        def losses() -> dict[str, Tensor]:
            return reference_losses(model, self.imgs, model.draw_cells(self.imgs))

        return _make_training_step(losses, optimizer, autocast)

    def _forward(self, autocast: Autocast) -> Callable[[], None]:
        def forward() -> None:
            with torch.no_grad(), autocast():
                self.model(self.imgs, mode='loss')

        return forward

    def _encoder(self, autocast: Autocast) -> Callable[[], None]:
        def encode() -> Iterable[Tensor]:
            return self.model.encode(self.imgs, self.model.draw_cells(self.imgs)).maps

        return with_gradients(encode, self.model, autocast)

    def _decoder(self, autocast: Autocast) -> Callable[[], None]:
        with torch.no_grad(), autocast():
            cells = self.model.draw_cells(self.imgs)
            features = self.model.encode(self.imgs, cells)
        return with_gradients(lambda: [self.model.decode(features, cells)], self.model, autocast)

    def _dense_encoder(self, autocast: Autocast) -> Callable[[], None]:
        dense = self.dense
        assert dense is not None  # or this part was not chosen
        return with_gradients(lambda: dense(self.imgs), dense, autocast)

    def _masked_dense(self, autocast: Autocast) -> Callable[[], None]:
        def encode() -> Iterable[Tensor]:
            mask = self.model.draw_cells(self.imgs).mask
            return masked_dense(self.model.encoder, hide(self.imgs, mask), mask)

        return with_gradients(encode, self.model, autocast)


def _make_training_step(
    losses: Callable[[], dict[str, Tensor]], optimizer: torch.optim.Optimizer, autocast: Autocast
) -> Callable[[], None]:
    """Make a function that does a training step on losses."""

    def step() -> None:
        with autocast():
            loss: Any = sum(losses().values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def reference_losses(model: MaskedAutoencoder, imgs: Tensor, cells: Cells) -> dict[str, Tensor]:
    """Compute the losses of a model by :func:`masked_dense` and :func:`channels_first`.

    Args:
        model: A model with a ConvNeXt and a UNet decoder.
        imgs: (B, C, H, W), normalized.
        cells: What is hidden and what of it is predicted.
    """
    assert isinstance(model.decoder, UNetDecoder)
    maps = masked_dense(model.encoder, hide(imgs, cells.mask), cells.mask)
    decoded = channels_first(model.decoder, maps, cells.mask)
    objectives = model.objectives.items()
    return {f'loss_{name}': each(each.head(decoded), imgs, cells.predict) for name, each in objectives}


def with_gradients(run: Callable[[], Iterable[Tensor]], module: nn.Module, autocast: Autocast) -> Callable[[], None]:
    """Make a function that computes maps and the gradients of a module, as a training step does.

    Args:
        run: Computes the maps.
        module: What is trained; its gradients are removed at the end.
        autocast: Context in which the maps are computed.
    """

    def both() -> None:
        with autocast():
            loss: Any = sum(x.float().square().mean() for x in run())
        loss.backward()
        module.zero_grad()

    return both


class _DenseLevels(nn.Module):
    """timm's own model, which returns the levels that the encoder returns."""

    def __init__(self, body: Any, indices: Sequence[int], norm: bool) -> None:
        super().__init__()
        self.body, self.options = body, dict(indices=indices, norm=norm, stop_early=True, intermediates_only=True)

    def forward(self, imgs: Tensor) -> list[Tensor]:
        return self.body.forward_intermediates(imgs, **self.options)


def _build_dense(cfg: Config, encoder: Encoder, size: Sequence[int], device: torch.device) -> nn.Module | None:
    """Build timm's model for this size and these levels; None where the encoder returns its embedded input."""
    indices = [i for i in encoder.out_indices if i >= 0]
    if len(indices) != len(encoder.out_indices):
        return None
    arch, given = find_timm_arguments(cfg.model.encoder)
    given |= {'img_size': tuple(size)} if 'img_size' in given else {}
    norm = 'final_norm' in list_arguments(type(encoder)) and cfg.model.encoder.get('final_norm', True)
    body = timm.create_model(arch, num_classes=0, global_pool='', **given)
    return _DenseLevels(body, indices, norm).to(device).train()


def _build_optimizer(cfg: Config, model: nn.Module) -> torch.optim.Optimizer:
    options = dict(cfg.optim_wrapper.optimizer)
    return getattr(torch.optim, options.pop('type'))([p for p in model.parameters() if p.requires_grad], **options)


def _make_autocast(device: torch.device, dtype: torch.dtype) -> Autocast:
    if dtype == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype)
