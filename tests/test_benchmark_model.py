"""The benchmark of models counts what it says; how fast they are depends on the machine."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.model import benchmark_models, compare, report
from mae_toolkit.benchmarks.model_parts import NAMES, reference_losses
from mae_toolkit.errors import UserError
from mae_toolkit.flops import count_flops
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from parts import ENCODERS, images, make_model
from tiny import QUICKSTART


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    """The rate of the machine is measured on matrices that take no seconds."""
    monkeypatch.setattr('mae_toolkit.benchmarks.model.MATRIX', {'cpu': (64, 128)})


@pytest.mark.parametrize('groups', [1, 2, 8])
@pytest.mark.parametrize('transposed', [False, True])
def test_flops_of_a_convolution_and_its_gradients(groups, transposed):
    """Multiplications and additions: the channels that a kernel sees, its 9 places, and where it stands."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(8, 16, 3, stride=2, groups=groups, bias=False)
    x = torch.randn(2, 8, 9, 13, requires_grad=True)
    places = 9 * 13 if transposed else 4 * 6
    once = 2 * 2 * 16 * (8 // groups) * 9 * places

    def step():
        conv(x).sum().backward()

    assert count_flops(lambda: conv(x)) == once
    assert count_flops(step) == 3 * once
    x.requires_grad_(False)
    assert count_flops(step) == 2 * once


def with_encoder(name):
    """The quickstart with a small encoder of another kind."""
    cfg = load_config(QUICKSTART)
    cfg.model.encoder = ENCODERS[name] | {'out_indices': (1,)}
    return cfg


@pytest.mark.slow
def test_several_configs_in_one_run():
    """Each part of each config once, in every type; dense networks where there are any."""
    cfgs = [with_encoder('ConvNeXt V2'), with_encoder('Swin')]
    dtypes = (torch.float32, torch.bfloat16)
    chosen = ('encoder', 'dense', 'masked-dense')
    results = benchmark_models(cfgs, 2, (32, 48), dtypes, runs=1, parts=chosen)
    assert [result['dtype'] for result in results] == ['float32', 'bfloat16'] * 2
    names = [[row['part'] for row in result['rows']] for result in results]
    assert names == [[NAMES[key] for key in chosen]] * 2 + [[NAMES['encoder'], NAMES['dense']]] * 2
    for result in results:
        ms = {row['part']: row['ms'] for row in result['rows']}
        gflop = {row['part']: row['gflop'] for row in result['rows']}
        assert result['size'] == [32, 48]
        assert gflop['encoder'] < gflop['timm dense encoder']
        assert result['eta'] == pytest.approx(result['visible'] * ms['timm dense encoder'] / ms['encoder'])
        faster = result['masked_dense_over_encoder']
        assert faster is None if len(ms) == 2 else faster == pytest.approx(ms['masked dense encoder'] / ms['encoder'])
        assert ('masked dense convolutions' in report(result)) == (faster is not None)
    table = compare([{'config': str(i), **result} for i, result in enumerate(results)]).splitlines()
    assert len(table) == 2 + len(results)
    assert table[2].split()[:3] == ['1.00'] * 3
    assert table[4].split()[2] == '-'  # Swin has no masked dense convolutions


@pytest.mark.parametrize('norm', ['batch', 'layer'])
def test_the_reference_step_gives_the_same_losses_and_gradients(norm):
    model = make_model('ConvNeXt', decoder={'type': 'UNetDecoder', 'width': 16, 'norm': norm})
    cells = model.draw_cells(images())
    ours = model(images(), mask=cells.mask, mode='loss')
    plain = deepcopy(model).to(memory_format=torch.contiguous_format)
    theirs = reference_losses(plain, images(), cells)
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    both = ((model, ours), (plain, theirs))
    gradients = [torch.autograd.grad(losses['loss_pixel'], list(each.parameters())) for each, losses in both]
    largest = max(g.abs().max() for g in gradients[0])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * largest.item())


@pytest.mark.slow
def test_a_step_beside_the_reference():
    cfg = with_encoder('ConvNeXt V2')
    cfg.model.decoder = {'type': 'UNetDecoder', 'width': 16}
    result, without = benchmark_models(
        [cfg, with_encoder('Swin')], 2, (32, 48), runs=1, parts=('step', 'reference-step')
    )
    ms = [row['ms'] for row in result['rows']]
    assert result['step_over_reference'] == pytest.approx(ms[0] / ms[1])
    assert 'of the reference' in report(result)
    assert without['step_over_reference'] is None and len(without['rows']) == 1


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(UserError, match='no GPU'):
        benchmark_models([with_encoder('Swin')], 2, 32, device='cuda')


@pytest.mark.slow
def test_the_configs_of_the_benchmark_can_be_built(root):
    """Without memory for their weights."""
    paths = sorted((root / 'configs/benchmark').glob('*.py'))
    assert len(paths) > 5
    for path in paths:
        cfg = load_config(path)
        with torch.device('meta'):
            encoder = build(Encoder, cfg.model.encoder)
        assert encoder.mask_unit in (16, 32)
        assert cfg.model.masking.ratio == (0.75 if cfg.model.encoder.type in ('Eva', 'Swin', 'ViT') else 0.6)
