"""Encoders as graphs, for programs without this toolkit: torch.export and ONNX, of whole images."""

import importlib.util
import io

import torch
from torch import nn
from torch.export import Dim

from mae_toolkit.errors import UserError
from mae_toolkit.export.difference import difference, furthest
from mae_toolkit.files import atomic_write

GRAPHS = ('torch-export', 'onnx')
ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
DYNAMIC = {'none': {}, 'batch': {0: Dim.DYNAMIC}, 'size': {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}


class Dense(nn.Module):
    """An encoder that is always asked for whole images."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, imgs):
        """Maps (B, C_i, H/s_i, W/s_i) of images (B, C, H, W)."""
        return self.encoder(imgs)


@torch.no_grad()
def write_graph(encoder, path, kind, size, dynamic='batch'):
    """Write an encoder in dense mode, read it back, and compare what it says with what the encoder says.

    Args:
        encoder (Encoder): In any mode; it is left in evaluation mode.
        path (str | Path): The file.
        kind (str): ``'torch-export'`` (read by ``torch.export.load``) or ``'onnx'``.
        size (tuple[int, int]): Rows and columns of the image with which it is traced.
        dynamic (str): What may differ when it runs: ``'none'``, ``'batch'``, or ``'size'``, rows and columns too.

    Returns:
        Difference: The greatest, over the sizes that were tried.

    Raises:
        UserError: If a library is missing, or the encoder cannot be traced so.
    """
    model = Dense(encoder).eval()
    imgs = _images(2, encoder.in_chans, size)
    shapes = {'imgs': DYNAMIC[dynamic]} if DYNAMIC[dynamic] else None
    run = (_to_onnx if kind == 'onnx' else _to_program)(model, imgs, shapes, path)
    others = {'none': (2, size), 'batch': (3, size), 'size': (3, tuple(2 * n for n in size))}
    tried = (imgs, _images(others[dynamic][0], encoder.in_chans, others[dynamic][1]))
    return furthest([_difference(run, model, x, dynamic) for x in tried])


def _to_program(model, imgs, shapes, path):
    """Write a program of torch.export, and give what runs it."""
    program = _traced(model, imgs, shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    atomic_write(path, buffer.getvalue())
    return torch.export.load(str(path)).module()


def _to_onnx(model, imgs, shapes, path):
    """Write ONNX, and give what runs it."""
    lacking = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f'ONNX needs {", ".join(lacking)}: pip install {" ".join(lacking)}.')
    import onnxruntime

    names = [f'map_{i}' for i in range(len(model.encoder.out_channels))]
    traced = _traced(model, imgs, shapes).run_decompositions({ATTENTION: _attention})
    program = torch.onnx.export(traced, dynamo=True, input_names=['imgs'], output_names=names, verbose=False)
    atomic_write(path, program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: [torch.from_numpy(out) for out in session.run(None, {'imgs': x.numpy()})]


def _traced(model, imgs, shapes):
    try:
        return torch.export.export(model, (imgs,), dynamic_shapes=shapes)
    except Exception as error:  # torch's tracers raise many kinds
        raise UserError(
            f'{type(model.encoder).__name__} cannot be traced so ({_first_line(error)}): try --dynamic none.'
        ) from error


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Attention in products and a softmax, for any number of dimensions before (tokens, channels).

    torch's own translation to ONNX knows four dimensions alone; Hiera and attention within windows have five.
    """
    weights = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        weights = weights.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else weights + attn_mask
    return weights.softmax(-1) @ value


def _difference(run, model, imgs, dynamic):
    try:
        found = run(imgs)
    except (AssertionError, RuntimeError) as error:  # a guard of the graph
        raise UserError(
            f'The graph of {type(model.encoder).__name__} does not run at {tuple(imgs.shape)} ({_first_line(error)}): '
            f'it is of a fixed size, so --dynamic {dynamic} is not for it; use batch or none.'
        ) from error
    return difference(found, model(imgs))


def _images(batch, channels, size):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(batch))


def _first_line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
