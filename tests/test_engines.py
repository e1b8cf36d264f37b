"""Two processes do what one does: with data parallelism, and with everything sharded (FSDP2)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

import parts
from engine_toys import ToyImages, ToyPreprocessor, loader, make_runner, val_loader
from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.distributed import benchmark_distributed, count_sent, report
from mae_toolkit.engine import AutocastOptimWrapper, DataParallel, Lars, data_parallel_config
from mae_toolkit.engine.fsdp import FSDP2, find_blocks
from mae_toolkit.engine.hooks.compile import compile_parts
from mae_toolkit.engine.sharded_optimizer import prepare_optim_wrapper
from mae_toolkit.errors import UserError
from mae_toolkit.models import Masking
from test_distributed import run_pair
from tiny import QUICKSTART

ROOT = Path(__file__).resolve().parents[1]

STEPS, BATCH = 20, 4
HIERA = parts.ENCODERS['Hiera'] | {'with_cp': True}
SPARSE = parts.ENCODERS['SparseCNN'] | {'out_indices': (1,), 'sync_bn': True}
UNET = parts.DECODERS['UNetDecoder'] | {'sync_bn': True}
# Every family of encoders, every decoder, and a teacher that follows the encoder, which is a second forward pass.
FAMILIES = {
    'ViT, EMA': dict(encoder='ViT', decoder='TransformerDecoder', target='EMATarget'),
    'ConvNeXt V2': dict(encoder='ConvNeXt V2', decoder='ConvNeXtDecoder'),
    'SparseCNN': dict(encoder=SPARSE, decoder=UNET),
    'Swin': dict(encoder='Swin with a mask token', decoder='LinearDecoder'),
    'Hiera': dict(encoder=HIERA, decoder='TransformerDecoder with fusion, learned positions'),
    'Eva': dict(encoder='Eva, EVA-02, levels', decoder='CrossAttentionDecoder'),
}


class BrightestCells(Masking):
    """Masks that the image alone decides: two processes hide what one hides."""

    def score(self, imgs, h, w):
        return nn.functional.adaptive_avg_pool2d(imgs.mean(1), (h, w))


def make_model(name, **changes):
    torch.manual_seed(0)
    config = FAMILIES[name] | changes
    probe = parts.make_model(**config)
    masking = BrightestCells(ratio=0.5, unit=probe.masking.unit)
    model = parts.make_model(**config, masking=masking, data_preprocessor=ToyPreprocessor())
    for parameter in model.parameters():
        parameter.data.mul_(0.5)  # as wild as parts are, rounding errors would grow in 20 steps
    return model


def train(model, rank=0, world=1, counts=1, optimizer=None, wrapper=OptimWrapper, steps=STEPS):
    """Losses of this process, and the whole weights, after 20 steps on its part of each batch."""
    plain = getattr(model, 'module', model)
    # A bias before a batch norm has no gradient but rounding errors: with torch's eps of 1e-8 they would be its steps.
    optimizer = optimizer or torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.05, eps=1e-5, foreach=True)
    wrapper = wrapper(optimizer=optimizer, accumulative_counts=counts, clip_grad={'max_norm': 1.0})
    if isinstance(model, FSDP2):
        prepare_optim_wrapper(wrapper, model)
    wrapper.initialize_count_status(model, 0, steps)
    teachers = [part for part in plain.modules() if hasattr(part, 'follow')]
    losses = []
    for step in range(steps):
        imgs = torch.randint(256, (BATCH, 3, *parts.SIZE), generator=torch.Generator().manual_seed(step)).float()
        logged = model.train_step({'imgs': imgs.chunk(world)[rank]}, wrapper)
        losses.append(float(logged['loss'].detach()))
        for teacher in teachers:
            teacher.follow(plain.encoder, 0.9)
    state = read_whole(model) if isinstance(model, FSDP2) else plain.state_dict()
    return {'losses': torch.tensor(losses, dtype=torch.float64), 'state': state}


def read_whole(model):
    with model.whole():
        return {name: value.clone() for name, value in model.module.state_dict().items()}


def data_parallel(model, **changes):
    config = data_parallel_config(model) | changes
    config.pop('type')
    return DataParallel(model, **config)


def train_all(rank, folder):
    torch.distributed.init_process_group('gloo')
    found = {}
    for name in FAMILIES:
        found[name, 'DataParallel'] = train(data_parallel(make_model(name)), rank, 2)
        found[name, 'FSDP2'] = train(FSDP2(make_model(name)), rank, 2)
    model = make_model('Eva')
    for parameter in model.parameters():
        parameter.data += rank
    found['begun with'] = read_whole(FSDP2(model))
    for name, wrap in ACCUMULATING.items():
        found[name] = train(wrap(make_model('Hiera')), rank, 2, counts=2, steps=4)
    for name, wrap in IN_BFLOAT16.items():
        found[name] = train(wrap(make_model('Hiera')), rank, 2, wrapper=AutocastOptimWrapper, steps=4)
    for name in FAMILIES:
        model = FSDP2(make_model(name), param_dtype='bfloat16')
        found[name, 'bfloat16'] = train(model, rank, 2, wrapper=AutocastOptimWrapper, steps=2)
    found['compressed'] = train(data_parallel(make_model('Hiera'), gradient_compression='bfloat16'), rank, 2, steps=4)
    return found


# Hiera recomputes its activations: a static graph, no_sync and checkpoints of activations together.
ACCUMULATING = {
    'DataParallel, accumulating': lambda model: data_parallel(model),
    'FSDP2, accumulating': lambda model: FSDP2(model),
    'FSDP2, accumulating shards': lambda model: FSDP2(model, sync_while_accumulating=True),
    'FSDP2, accumulating, kept': lambda model: FSDP2(model, reshard_after_forward=False),
}
IN_BFLOAT16 = {
    'DataParallel, autocast': lambda model: data_parallel(model),
    'FSDP2, autocast': lambda model: FSDP2(model),
    'FSDP2, bfloat16': lambda model: FSDP2(model, param_dtype='bfloat16'),
}


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
    return run_pair(train_all, tmp_path_factory.mktemp('two'))


@pytest.mark.process
@pytest.mark.parametrize('name', FAMILIES)
def test_two_processes_equal_one(name, pairs):
    single = train(make_model(name))
    for engine in ('DataParallel', 'FSDP2'):
        first, second = (pair[name, engine] for pair in pairs)
        mean = (first['losses'] + second['losses']) / 2
        torch.testing.assert_close(
            mean, single['losses'], rtol=0, atol=1e-6, msg=lambda text, name=engine: f'{name}: {text}'
        )
        for key, value in single['state'].items():
            torch.testing.assert_close(first['state'][key], value, rtol=0, atol=1e-5)
            if 'running' not in key:
                assert torch.equal(first['state'][key], second['state'][key]), (engine, key)


@pytest.mark.process
def test_all_shards_begin_with_the_weights_of_the_first_process(pairs):
    wanted = make_model('Eva').state_dict()
    for pair in pairs:
        assert all(torch.equal(value, wanted[name]) for name, value in pair['begun with'].items())


@pytest.mark.process
def test_accumulated_gradients_are_those_of_one_process(pairs):
    single = train(make_model('Hiera'), counts=2, steps=4)
    for name in ACCUMULATING:
        first, second = (pair[name] for pair in pairs)
        mean = (first['losses'] + second['losses']) / 2
        torch.testing.assert_close(
            mean, single['losses'], rtol=0, atol=1e-6, msg=lambda text, name=name: f'{name}: {text}'
        )
        for key, value in single['state'].items():
            torch.testing.assert_close(first['state'][key], value, rtol=0, atol=1e-5)


@pytest.mark.process
def test_bfloat16(pairs):
    """Sharding changes nothing in autocast; gathering and sending in bfloat16 rounds, and no more than that."""
    names = ('DataParallel, autocast', 'FSDP2, autocast', 'FSDP2, bfloat16', 'compressed', ('Hiera', 'DataParallel'))
    autocast, sharded, gathered, compressed, exact = (pairs[0][name]['losses'] for name in names)
    torch.testing.assert_close(sharded, autocast, rtol=0, atol=1e-6)
    for rounded, other in ((gathered, autocast), (compressed, exact[:4])):
        torch.testing.assert_close(rounded, other, rtol=0, atol=2e-3)
        assert not torch.equal(rounded, other)
    for name in FAMILIES:
        gathered, exact = (pairs[0][name, kind]['losses'][:2] for kind in ('bfloat16', 'FSDP2'))
        torch.testing.assert_close(gathered, exact, rtol=1e-2, atol=1e-2)


IMAGES = {'shape': (3, *parts.SIZE)}
HOOKS = [
    {'type': 'MomentumHook', 'momentum': 0.9, 'end_momentum': 0.9},
    {'type': 'NaNGuardHook'},
    {'type': 'ReconstructionHook', 'interval': 2, 'num_images': 1},
    {'type': 'BatchNormStatisticsHook', 'images': 4},
]
OBJECTIVES = {
    'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]},
    'teacher': {'target': {'type': 'EMATarget'}, 'losses': [{'type': 'MaskedL2Loss'}]},
}
SHARDED = {'type': 'mae_toolkit.FSDP2'}


def run(folder, engine=None, epochs=2, hooks=(), wrapper=None, encoder=SPARSE, decoder=UNET, **options):
    """A run of two processes over 8 images: 2 iterations per epoch, 5 images for the validation."""
    masking = BrightestCells(ratio=0.5, unit=8)
    torch.manual_seed(0)
    model = parts.make_model(
        encoder,
        decoder=decoder,
        masking=masking,
        objectives=OBJECTIVES,
        data_preprocessor={'type': 'mae_toolkit.ImagePreprocessor'},
    )
    optimizer = {'type': 'AdamW', 'lr': 1e-3, 'eps': 1e-5}
    runner = make_runner(
        folder,
        model=model,
        launcher='pytorch',
        cfg={'model_wrapper_cfg': engine},
        train_dataloader=loader(ToyImages(8, **IMAGES), 2),
        val_dataloader=val_loader(images=ToyImages(5, **IMAGES), batch=3),
        val_cfg={'type': 'MAEValLoop'},
        epochs=epochs,
        hooks=[*HOOKS, *hooks],
        wrapper={'optimizer': optimizer, 'clip_grad': {'max_norm': 1.0}, **(wrapper or {})},
        **options,
    )
    runner.train()
    return runner


def run_engines(rank, folder):
    """Train with both engines; go on after the first epoch of each with each."""
    runs = {'DataParallel': None, 'FSDP2': SHARDED}
    found = {}
    for name, engine in runs.items():
        runner = run(folder / name, engine)
        found[name] = [
            runner.message_hub.get_scalar(key).data[0] for key in ('train/loss', 'val/loss', 'train/grad_norm')
        ]
        found[name] = [torch.tensor(values) for values in found[name]]
    for name, other in (('DataParallel', 'FSDP2'), ('FSDP2', 'DataParallel')):
        saved = str(folder / name / 'epoch_1.pth')
        run(folder / f'{name} to {other}', runs[other], load_from=saved, resume=True)
    found['refused'] = [
        refuse(folder, hook) for hook in (EMA, {'type': 'FreezeEncoderHook', 'steps': 1}, {'type': 'WatchHook'})
    ]
    return found


EMA = {'type': 'EMAHook'}


def refuse(folder, hook=None, engine=SHARDED, **options):
    small = {'encoder': 'ViT', 'decoder': 'TransformerDecoder'}
    with pytest.raises(UserError) as refused:
        run(folder / 'refused', engine, hooks=[hook] if hook else (), **small, **options)
    return str(refused.value)


@pytest.fixture(scope='module')
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp('engines')
    return run_pair(run_engines, folder), folder


@pytest.mark.process
def test_a_run_with_fsdp2_is_that_with_data_parallelism(engines):
    pairs, folder = engines
    for pair in pairs:
        for sharded, parallel in zip(pair['FSDP2'], pair['DataParallel'], strict=True):
            torch.testing.assert_close(sharded, parallel, rtol=1e-6, atol=1e-6)
    assert (folder / 'FSDP2' / 'reconstruction.png').exists()


@pytest.mark.process
@pytest.mark.parametrize('name', ['FSDP2', 'DataParallel to FSDP2', 'FSDP2 to DataParallel'])
def test_checkpoints_go_from_engine_to_engine(engines, name):
    """Of the second epoch: after the first one with the same engine or another, they equal those of one engine."""
    saved, wanted = (torch.load(engines[1] / one / 'epoch_2.pth') for one in (name, 'DataParallel'))
    assert list(saved['state_dict']) == list(wanted['state_dict'])
    for key, value in wanted['state_dict'].items():
        torch.testing.assert_close(saved['state_dict'][key], value, rtol=1e-6, atol=1e-5)
    assert saved['optimizer']['param_groups'] == wanted['optimizer']['param_groups']
    assert saved['masked_batch_norms'].keys() == wanted['masked_batch_norms'].keys()
    for number, state in wanted['optimizer']['state'].items():
        for key, value in state.items():
            torch.testing.assert_close(saved['optimizer']['state'][number][key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.process
def test_what_does_not_go_with_an_engine_is_refused(engines):
    first, second = (pair['refused'] for pair in engines[0])
    assert first == second
    ema, freeze, watch = first
    assert 'EMAHook does not go with FSDP2: it averages whole parameters' in ema
    assert 'FreezeEncoderHook does not go with FSDP2' in freeze
    assert 'WatchHook does not go with FSDP2' in watch


def test_what_cannot_be_sharded_is_refused(tmp_path):
    parameters = nn.Linear(2, 2).parameters
    model = SimpleNamespace(param_dtype=None)  # what is asked of FSDP2
    with pytest.raises(UserError, match='FSDP2: Lars looks at whole parameters'):
        prepare_optim_wrapper(OptimWrapper(Lars(parameters(), lr=0.1)), model)
    with pytest.raises(UserError, match="FSDP2: param_dtype='bfloat16' goes with optim_wrapper"):
        prepare_optim_wrapper(OptimWrapper(torch.optim.AdamW(parameters())), SimpleNamespace(param_dtype='bfloat16'))
    with pytest.raises(UserError, match='FSDP2 trains with OptimWrapper or AutocastOptimWrapper, not with dict'):
        prepare_optim_wrapper({}, model)
    with pytest.raises(UserError, match="param_dtype='float16' must be 'bfloat16', or None"):
        FSDP2(nn.Linear(2, 2), param_dtype='float16')
    with pytest.raises(UserError, match="gradient_compression='float16' must be 'bfloat16'"):
        DataParallel(nn.Linear(2, 2), gradient_compression='float16')
    with pytest.raises(UserError, match="there is no engine 'FSDP3'; did you mean FSDP2?"):
        make_runner(tmp_path, cfg={'model_wrapper_cfg': {'type': 'FSDP3'}})


def test_fsdp2_needs_processes_and_an_encoder():
    with pytest.raises(UserError, match='FSDP2 shards a model over processes: start with --launcher'):
        FSDP2(make_model('Eva'))


def compile_engines(rank, folder):
    """Each process by itself, and only the first one works: to compile takes a while."""
    torch.distributed.init_process_group('gloo', rank=0, world_size=1, store=torch.distributed.HashStore())
    found = {}
    if rank:
        return found
    for name, wrap in {'DataParallel': data_parallel, 'FSDP2': FSDP2}.items():
        model = wrap(make_model('ViT, EMA'))
        compile_parts(model.module, backend='aot_eager')
        found[name] = train(model, steps=2)['losses']
    return found


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(shutil.which('c++') is None, reason='torch.compile on the CPU needs a C++ compiler')
def test_compiled_engines_compute_the_same(tmp_path):
    found, _ = run_pair(compile_engines, tmp_path)
    single = train(make_model('ViT, EMA'), steps=2)['losses']
    for name, losses in found.items():
        torch.testing.assert_close(losses, single, rtol=0, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.slow
@pytest.mark.process
def test_weak_scaling_is_measured():
    cfg = load_config(QUICKSTART)
    result = benchmark_distributed(cfg, processes=2, batch=2, size=32, runs=1, start_method='fork')
    names = [row['name'] for row in result['rows']]
    assert names == ['1 process', '2 processes, DataParallel', '2 processes, FSDP2']
    alone, parallel, _ = result['rows']
    assert alone['efficiency'] == 1 and alone['sent_mb'] == 0
    assert parallel['images_per_s'] == pytest.approx(4 / parallel['ms'] * 1000)
    assert 'MB sent' in report(result)


def test_sent_megabytes_are_those_of_a_ring():
    """An all-reduce of gradients; or all weights gathered once, blocks twice, and a reduce-scatter."""
    model = parts.make_model()
    blocks = sum(p.numel() for block in find_blocks(model) for p in block.parameters())
    gradients = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = sum(p.numel() for p in model.parameters())
    assert 0 < blocks < gradients < weights  # a table of positions is fixed
    assert count_sent(model, 'DataParallel', 2) == pytest.approx(gradients * 4 / 1e6)
    assert count_sent(model, 'FSDP2', 4) == pytest.approx((weights + blocks + gradients) * 3 / 1e6)
    halved = count_sent(model, 'FSDP2', 4, 'bfloat16')  # blocks are gathered in two bytes each
    assert halved == pytest.approx((weights + gradients) * 3 / 1e6)


def test_weak_scaling_compares_several_processes():
    with pytest.raises(UserError, match='--processes 1: weak scaling compares 2 or more'):
        benchmark_distributed(load_config(QUICKSTART), processes=1)


GPU_PROGRAM = """
import sys, torch
sys.path.insert(0, 'tests')
import mae_toolkit.engine
from mae_toolkit.engine import AutocastOptimWrapper, init_distributed
from test_engines import FAMILIES, FSDP2, compile_parts, data_parallel, make_model, read_whole, train
init_distributed('pytorch')
assert torch.distributed.get_backend() == 'nccl'
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
for name in FAMILIES:
    parallel = train(data_parallel(make_model(name).cuda()), steps=4)
    sharded = train(FSDP2(make_model(name)), steps=4)
    torch.testing.assert_close(sharded['losses'], parallel['losses'], rtol=1e-4, atol=1e-4)
    for key, value in parallel['state'].items():
        torch.testing.assert_close(sharded['state'][key], value, rtol=1e-3, atol=1e-3)
    rounded = train(FSDP2(make_model(name), param_dtype='bfloat16'), steps=4, wrapper=AutocastOptimWrapper)
    torch.testing.assert_close(rounded['losses'], parallel['losses'], rtol=5e-2, atol=5e-2)
    print(name, 'ok', flush=True)
compressed = train(data_parallel(make_model('Eva').cuda(), gradient_compression='bfloat16'), steps=4)
print('compressed', compressed['losses'].tolist(), flush=True)
for wrap in (lambda model: data_parallel(model.cuda()), FSDP2):
    model = wrap(make_model('Hiera'))
    compile_parts(model.module)
    print('compiled', train(model, steps=3)['losses'].tolist(), flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.process
@pytest.mark.skipif(not torch.cuda.is_available(), reason='this machine has no GPU')
def test_both_engines_on_a_gpu():
    """NCCL with one process: FSDP2 shards over itself, and computes what data parallelism computes."""
    env = os.environ | {'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1'}
    ran = subprocess.run(
        [sys.executable, '-c', GPU_PROGRAM], cwd=ROOT, env=env | {'MASTER_PORT': '29511', 'PYTHONPATH': str(ROOT)}
    )
    assert ran.returncode == 0
