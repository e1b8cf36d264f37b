"""Writing encoders of whole images as graphs of torch.export and ONNX, for programs without this toolkit."""

import importlib.util
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mae_toolkit.errors import UserError
from mae_toolkit.export.difference import Difference, compare_maps, find_greatest
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.printing import first_line

GRAPHS = ('torch-export', 'onnx')
ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
DYNAMIC: dict[str, dict[int, Any]] = {
    'none': {},
    'batch': {0: Dim.DYNAMIC},
    'size': {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},
}


Run = Callable[[Tensor], Iterable[Tensor]]


class Dense(nn.Module):
    """An encoder that always sees whole images."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Return the maps (B, C_i, H/s_i, W/s_i) of images (B, C, H, W)."""
        return self.encoder(imgs)


@torch.no_grad()
def write_graph(
    encoder: Encoder, path: str | Path, kind: str, size: tuple[int, int], dynamic: str = 'batch'
) -> Difference:
    """Write an encoder of whole images as a graph, read it back, and compare its maps with the encoder's.

    Args:
        encoder: The encoder, in any mode; it is left in evaluation mode.
        path: The file to write.
        kind: ``'torch-export'`` (read by ``torch.export.load``) or ``'onnx'``.
        size: Rows and columns of the image with which it is traced.
        dynamic: What may differ when it runs: ``'none'``, ``'batch'``, or ``'size'``, rows and columns too.

    Returns:
        The greatest difference, over the sizes that were tried.

    Raises:
        UserError: If a library is missing, or the encoder cannot be traced so.
    """
    model = Dense(encoder).eval()
    imgs = _images(2, encoder.in_chans, size)
    shapes = {'imgs': DYNAMIC[dynamic]} if DYNAMIC[dynamic] else None
    run = (_to_onnx if kind == 'onnx' else _to_program)(model, imgs, shapes, path)
    others = {'none': (2, size), 'batch': (3, size), 'size': (3, (2 * size[0], 2 * size[1]))}
    tried = (imgs, _images(others[dynamic][0], encoder.in_chans, others[dynamic][1]))
    return find_greatest([_compare(run, model, x, dynamic) for x in tried])


def _to_program(model: Dense, imgs: Tensor, shapes: dict[str, Any] | None, path: str | Path) -> Run:
    """Write a program of torch.export, and return what runs it."""
    program = _trace(model, imgs, shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    atomic_write(path, buffer.getvalue())
    return torch.export.load(str(path)).module()


def _to_onnx(model: Dense, imgs: Tensor, shapes: dict[str, Any] | None, path: str | Path) -> Run:
    """Write ONNX, and return what runs it."""
    lacking = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f'ONNX needs {", ".join(lacking)}: pip install {" ".join(lacking)}.')
    import onnxruntime

    names = [f'map_{i}' for i in range(len(model.encoder.out_channels))]
    traced = _trace(model, imgs, shapes).run_decompositions({ATTENTION: _attention})
    program = torch.onnx.export(traced, dynamo=True, input_names=['imgs'], output_names=names, verbose=False)
    assert program is not None
    atomic_write(path, program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: [torch.from_numpy(out) for out in session.run(None, {'imgs': x.numpy()})]


def _trace(model: Dense, imgs: Tensor, shapes: dict[str, Any] | None) -> ExportedProgram:
    try:
        return torch.export.export(model, (imgs,), dynamic_shapes=shapes)
    except Exception as error:  # torch's tracers raise many kinds
        raise UserError(
            f'{type(model.encoder).__name__} cannot be traced so ({first_line(error)}): try --dynamic none.'
        ) from error


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention by products and a softmax, for any number of dimensions before (tokens, channels).

    torch's own translation to ONNX knows four dimensions alone; Hiera and attention within windows have five.
    """
    weights = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        weights = weights.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else weights + attn_mask
    return weights.softmax(-1) @ value


def _compare(run: Run, model: Dense, imgs: Tensor, dynamic: str) -> Difference:
    try:
        found = run(imgs)
    except (AssertionError, RuntimeError) as error:  # a guard of the graph
        raise UserError(
            f'The graph of {type(model.encoder).__name__} does not run at {tuple(imgs.shape)} ({first_line(error)}): '
            f'it is of a fixed size, so --dynamic {dynamic} is not for it; use batch or none.'
        ) from error
    return compare_maps(found, model(imgs))


def _images(batch: int, channels: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(batch))
