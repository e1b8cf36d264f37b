"""torch.compile of encoders and decoders: the same numbers, and one graph where one is possible."""

import importlib
import shutil
from types import SimpleNamespace

import pytest
import torch

from mae_toolkit.models import Cells, Masking
from mae_toolkit.models.compile import compile_parts, restore_parts
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import build
from parts import DECODERS, ENCODERS, images, make_encoder, make_model

# The plan of a mask breaks the graph.
PLANNED = [name for name, config in ENCODERS.items() if 'window_size' in config and not config.get('mask_token')]
ONE_GRAPH = [name for name in ENCODERS if name not in PLANNED]
# The graph of the gradients is made for one encoder of each class, as it takes as long as all the rest.
WITH_GRADIENTS = {ENCODERS[name]['type']: name for name in reversed(ONE_GRAPH)}.values()
SMALL_SWIN = {'depths': (2,), 'num_heads': (1,), 'out_indices': (0,)}
pytestmark = pytest.mark.slow
needs_compiler = pytest.mark.skipif(shutil.which('c++') is None, reason='torch.compile on the CPU needs a C++ compiler')


def results(encoder, mask):
    """Outputs and gradients of an uneven loss."""
    encoder.zero_grad()
    cells = None if mask is None else Cells(mask, num_visible=int((~mask[0]).sum()))
    maps = encoder.encode(hide(images(), mask), cells).maps
    sum(x.sin().square().mean() for x in maps).backward()
    return [*maps, *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)]


def assert_compiled_equals_eager(name, masked, changes=None, regions='whole', **kwargs):
    torch.compiler.reset()
    encoder = make_encoder(name, **changes or {})
    mask = build(Masking, {'type': 'RandomMasking', 'unit': encoder.mask_unit})(images()) if masked else None
    expected = results(encoder, mask)
    compile_parts(SimpleNamespace(encoder=encoder, decoder=torch.nn.Identity()), regions, **kwargs)
    for a, b in zip(results(encoder, mask), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ONE_GRAPH)
def test_a_masked_encoder_is_one_graph(name):
    backend = 'aot_eager' if name in WITH_GRADIENTS else 'eager'
    assert_compiled_equals_eager(name, masked=True, backend=backend, fullgraph=True)


# The graph of the gradients is made for one decoder of each class here, too, of the features of Hiera.
WITH_GRADIENTS_TOO = {config['type']: name for name, config in DECODERS.items()}
AFTER = [('ViT learned positions, registers, levels', name, 'eager') for name in DECODERS]
AFTER += [('Hiera', name, 'aot_eager' if name in WITH_GRADIENTS_TOO.values() else 'eager') for name in DECODERS]


@pytest.mark.parametrize(('encoder', 'name', 'backend'), [case for case in AFTER if case[1] != 'LinearDecoder'])
def test_a_decoder_is_one_graph(encoder, name, backend):
    """Of all hidden cells, and of some of them."""
    torch.compiler.reset()
    model = make_model(encoder, masking={'type': 'RandomMasking', 'predict_ratio': 0.5}, decoder=name)
    for every in (True, False):
        cells = model.draw_cells(images(), predict_all=every)
        with torch.no_grad():
            features = model.encoder.encode(hide(images(), cells.mask), cells)
        assert cells.num_predict == (18 if every else 12)

        def run(forward, features=features, cells=cells):
            model.zero_grad()
            x = forward(features, cells)
            x.sin().square().mean().backward()
            return [x, *(p.grad.clone() for p in model.decoder.parameters())]

        expected = run(model.decoder.forward)
        compiled = run(torch.compile(model.decoder.forward, backend=backend, fullgraph=True))
        for a, b in zip(compiled, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_whole_swin_is_one_graph():
    assert_compiled_equals_eager('Swin V2', masked=False, changes=SMALL_SWIN, backend='eager', fullgraph=True)


def test_a_masked_swin_is_planned_outside_of_two_graphs():
    counter = torch._dynamo.testing.CompileCounterWithBackend('eager')
    assert_compiled_equals_eager('Swin', masked=True, changes=SMALL_SWIN, backend=counter)
    assert counter.frame_count == 2


@pytest.mark.process
@needs_compiler
def test_compiled_code_gives_the_same(monkeypatch):
    """Of the smallest encoder that packs cells and unpacks them, as compiling takes long, most of all for vectors."""
    monkeypatch.setattr(importlib.import_module('torch._inductor.config').cpp, 'vec_isa_ok', False)
    small = {'depths': (1, 1, 1, 1), 'out_indices': (0,)}
    assert_compiled_equals_eager('ConvNeXt V2', masked=True, changes=small, fullgraph=True)


BLOCKS = {ENCODERS[name]['type']: name for name in reversed(ENCODERS) if ENCODERS[name]['type'] != 'SparseCNN'}


# A checkpoint calls the compiled block as the encoder does, whatever the encoder: once for one that packs its cells.
@pytest.mark.parametrize(
    ('name', 'with_cp'),
    [*((name, False) for name in BLOCKS.values()), (BLOCKS['ViT'], True), (BLOCKS['ConvNeXt'], True)],
)
def test_blocks_are_compiled_each_kind_once(name, with_cp):
    counter = torch._dynamo.testing.CompileCounterWithBackend('eager')
    changes = {'with_cp': with_cp}
    assert_compiled_equals_eager(name, True, changes, 'blocks', backend=counter)
    assert counter.frame_count


def test_many_blocks_are_compiled_as_fast_as_few():
    counts = []
    for depth in (2, 4):
        counter = torch._dynamo.testing.CompileCounterWithBackend('eager')
        changes = {'depths': (1, depth, 1, 1), 'drop_path_rate': 0.0}
        assert_compiled_equals_eager('ConvNeXt V2', True, changes, 'blocks', backend=counter)
        counts.append(counter.frame_count)
    assert counts[0] == counts[1]


def test_blocks_of_many_kinds_are_all_compiled():
    """Each has its own rate of stochastic depth, and torch's own limit is 8."""
    counter = torch._dynamo.testing.CompileCounterWithBackend('eager')
    torch.compiler.reset()
    encoder = make_encoder('ConvNeXt V2', depths=(1, 12, 1, 1), drop_path_rate=0.5)
    compile_parts(SimpleNamespace(encoder=encoder, decoder=torch.nn.Identity()), 'blocks', backend=counter)
    results(encoder, None)
    assert counter.frame_count >= 12


def test_compiled_blocks_are_restored():
    encoder = make_encoder('Hiera')
    model = SimpleNamespace(encoder=encoder, decoder=torch.nn.Identity())
    before = [set(vars(module)) for module in encoder.modules()]
    compile_parts(model, 'blocks', backend='eager')
    assert before != [set(vars(module)) for module in encoder.modules()]
    restore_parts(model)
    assert before == [set(vars(module)) for module in encoder.modules()]
