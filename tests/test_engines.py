"""Two processes do what one does: with data parallelism, and with everything sharded (FSDP2)."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

import parts
from engine_toys import ToyPreprocessor
from mae_toolkit.engine import DataParallel, data_parallel_config
from mae_toolkit.engine.fsdp import FSDP2
from mae_toolkit.engine.sharded_optimizer import prepare_optim_wrapper
from mae_toolkit.models import Masking
from test_distributed import run_pair

STEPS, BATCH = 20, 4
HIERA = parts.ENCODERS['Hiera'] | {'with_cp': True}
SPARSE = parts.ENCODERS['SparseCNN'] | {'sync_bn': True}
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


def train(model, rank=0, world=1, counts=1, optimizer=None, **options):
    """Losses of this process, and the whole weights, after 20 steps on its part of each batch."""
    plain = getattr(model, 'module', model)
    optimizer = optimizer or torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.05)
    wrapper = OptimWrapper(optimizer, accumulative_counts=counts, clip_grad={'max_norm': 1.0}, **options)
    if isinstance(model, FSDP2):
        prepare_optim_wrapper(wrapper, model)
    wrapper.initialize_count_status(model, 0, STEPS)
    teachers = [part for part in plain.modules() if hasattr(part, 'follow')]
    losses = []
    for step in range(STEPS):
        imgs = torch.randint(256, (BATCH, 3, *parts.SIZE), generator=torch.Generator().manual_seed(step)).float()
        logged = model.train_step({'imgs': imgs.chunk(world)[rank]}, wrapper)
        losses.append(float(logged['loss'].detach()))
        for teacher in teachers:
            teacher.follow(plain.encoder, 0.9)
    if isinstance(model, FSDP2):
        with model.whole():
            state = {name: value.clone() for name, value in model.module.state_dict().items()}
    else:
        state = plain.state_dict()
    return {'losses': torch.tensor(losses, dtype=torch.float64), 'state': state}


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
    return found


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
        torch.testing.assert_close(mean, single['losses'], rtol=0, atol=1e-6, msg=lambda text: f'{engine}: {text}')
        for key, value in single['state'].items():
            torch.testing.assert_close(first['state'][key], value, rtol=0, atol=1e-5)
            if 'running' not in key:
                assert torch.equal(first['state'][key], second['state'][key]), (engine, key)
