"""LAMB and LARS by their names in a config, and a weight decay that changes while training goes on."""

import math

import pytest
import timm.optim
import torch
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from torch import nn

from engine_toys import ToyAutoencoder, make_runner
from mae_toolkit.checkpoints.files import load
from mae_toolkit.engine.optim import GroupedOptimWrapperConstructor
from mae_toolkit.registry import OPTIMIZERS, SCOPE

LAMB = {'type': 'Lamb', 'lr': 1e-2, 'betas': (0.9, 0.95), 'weight_decay': 0.04, 'max_grad_norm': 5.0}
LARS = {'type': 'Lars', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 1e-3}
RISING = {'type': 'CosineAnnealingParamScheduler', 'param_name': 'weight_decay', 'eta_min_ratio': 0.2 / 0.04}


@pytest.mark.parametrize('cfg', [LAMB, LARS], ids=['Lamb', 'Lars'])
def test_a_name_in_a_config_is_the_optimizer_of_timm(cfg):
    init_default_scope(SCOPE)
    wrapper = GroupedOptimWrapperConstructor({'type': 'OptimWrapper', 'optimizer': cfg})(ToyAutoencoder())
    assert type(wrapper.optimizer) is getattr(timm.optim, cfg['type'])
    decayed, exempt = wrapper.optimizer.param_groups
    assert (decayed['weight_decay'], exempt['weight_decay']) == (cfg['weight_decay'], 0)
    for key in cfg.keys() - {'type', 'weight_decay', 'max_grad_norm'}:
        assert decayed[key] == exempt[key] == cfg[key]


def test_a_step_of_lamb_is_that_of_the_paper():
    """Algorithm 2: Adam's step with its decay, scaled to the norm of the weights; what is not decayed is not scaled."""
    decayed, exempt = (nn.Parameter(torch.linspace(-1, 2, 6)) for _ in range(2))
    groups = [{'params': [decayed]}, {'params': [exempt], 'weight_decay': 0.0}]
    optimizer = OPTIMIZERS.build(LAMB | {'params': groups})
    grad = torch.linspace(3, -5, 6)
    before = decayed.detach().clone()
    for p in (decayed, exempt):
        p.grad = grad.clone()
    optimizer.step()
    clipped = grad * 5.0 / grad.repeat(2).norm()  # to max_grad_norm over all parameters
    adam = clipped / (clipped.abs() + 1e-6)  # the first step, its bias corrected
    step = adam + 0.04 * before
    torch.testing.assert_close(decayed.detach(), before - 1e-2 * step * before.norm() / step.norm())
    torch.testing.assert_close(exempt.detach(), before - 1e-2 * adam)


def test_gradients_are_clipped_to_what_the_config_says():
    norms = []
    for limit in (5.0, 1e9):
        p = nn.Parameter(torch.ones(4))
        optimizer = OPTIMIZERS.build(LAMB | {'params': [p], 'max_grad_norm': limit})
        p.grad = torch.full((4,), 100.0)
        optimizer.step()
        norms.append(optimizer.state[p]['exp_avg'].norm().item())
    assert norms == pytest.approx([0.1 * 5, 0.1 * 200])  # (1 - beta 1) times the norm of the gradients


@pytest.mark.parametrize('cfg', [LAMB, LARS], ids=['Lamb', 'Lars'])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, cfg):
    schedule = [{'type': 'LinearLR', 'begin': 0, 'end': 6, 'by_epoch': False}, RISING | {'by_epoch': False}]
    options = {'wrapper': {'optimizer': cfg}, 'param_scheduler': schedule, 'epochs': 2}
    make_runner(tmp_path / 'a', **options).train()
    make_runner(tmp_path / 'b', **options, load_from=str(tmp_path / 'a' / 'epoch_1.pth'), resume=True).train()
    whole, resumed = (load(tmp_path / name / 'epoch_2.pth') for name in 'ab')
    for name, tensor in whole['state_dict'].items():
        assert torch.equal(tensor, resumed['state_dict'][name]), name
    for ours, theirs in zip(whole['optimizer']['param_groups'], resumed['optimizer']['param_groups'], strict=True):
        assert ours == theirs
    for index, state in whole['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(value, resumed['optimizer']['state'][index][name]), name


def weight_decays(schedule, steps=50):
    """The weight decays of three groups after each of so many steps: of what is decayed, half decayed, exempt."""
    params = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [{'params': [p], 'weight_decay': decay} for p, decay in zip(params, (0.04, 0.02, 0.0), strict=True)]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    scheduler = PARAM_SCHEDULERS.build(schedule | {'optimizer': optimizer, 'by_epoch': False, 'end': steps})
    seen = []
    for _ in range(steps):
        seen.append([group['weight_decay'] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return torch.tensor(seen, dtype=torch.float64)


def test_weight_decay_rises_where_there_is_any():
    """SparK's: along a cosine from 0.04 to 0.2 (official lr_control.py), and what is exempt stays so."""
    seen = weight_decays(RISING)
    cosine = torch.tensor([0.5 + 0.5 * math.cos(math.pi * i / 50) for i in range(50)], dtype=torch.float64)
    torch.testing.assert_close(seen[:, 0], 0.2 + (0.04 - 0.2) * cosine, rtol=1e-9, atol=0)
    torch.testing.assert_close(seen[:, 1], seen[:, 0] / 2, rtol=1e-9, atol=0)
    assert not seen[:, 2].any()


def test_a_final_value_in_the_place_of_a_ratio_would_decay_what_is_exempt():
    """Why the schedule of SparK has eta_min_ratio."""
    seen = weight_decays({k: v for k, v in RISING.items() if k != 'eta_min_ratio'} | {'eta_min': 0.2})
    assert seen[-1, 2] > 0.19
