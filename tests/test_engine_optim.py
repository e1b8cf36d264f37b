"""Weight decay by MAE's rule in few groups, and bf16 on the CPU."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from engine_toys import ToyAutoencoder, loader, make_runner
from mae_toolkit.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mae_toolkit.engine.optim import AutocastOptimWrapper, GroupedOptimWrapperConstructor, merge_groups
from mae_toolkit.errors import UserError
from parts import make_model


def groups_of(model, paramwise_cfg=None, **optimizer):
    cfg = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.05} | optimizer}
    groups = GroupedOptimWrapperConstructor(cfg, paramwise_cfg)(model).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {(g['lr'], round(g['weight_decay'], 6)): sorted(names[id(p)] for p in g['params']) for g in groups}, groups


def test_tokens_are_decayed_and_what_has_one_dimension_is_not():
    by_options, groups = groups_of(ToyAutoencoder())
    assert by_options == {
        (0.1, 0.05): ['decoder.mask_token', 'decoder.proj.weight', 'encoder.pos_embed', 'encoder.proj.weight'],
        (0.1, 0.0): ['decoder.proj.bias', 'encoder.norm.bias', 'encoder.norm.weight', 'encoder.proj.bias'],
    }
    assert len(groups) == 2


def test_frozen_parameters_are_left_out():
    model = ToyAutoencoder()
    _, groups = groups_of(model)
    held = {id(p) for g in groups for p in g['params']}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_custom_keys_come_first():
    by_options, _ = groups_of(ToyAutoencoder(), {'custom_keys': {'decoder': {'lr_mult': 0.5, 'decay_mult': 0.1}}})
    assert by_options[0.05, 0.005] == ['decoder.mask_token', 'decoder.proj.bias', 'decoder.proj.weight']
    assert by_options[0.1, 0.05] == ['encoder.pos_embed', 'encoder.proj.weight']


def test_encoders_name_what_they_do_not_want_decayed():
    model = make_model('BEiT, one shared bias')
    names = {'encoder.mask_token', 'encoder.body.cls_token'}
    names.add('encoder.body.rel_pos_bias.relative_position_bias_table')
    by_options, _ = groups_of(model, {'no_weight_decay': True})
    assert names <= set(by_options[0.1, 0.0])
    by_options, _ = groups_of(model)
    assert names <= set(by_options[0.1, 0.05])


def test_groups_merge_by_the_options_that_count():
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    merged = merge_groups(
        [{'params': [a]}, {'params': [b], 'lr': 1.0, 'lr_mult': 1.0}, {'params': [c], 'lr': 2.0}], {'lr': 1.0}
    )
    assert [len(g['params']) for g in merged] == [2, 1]
    assert merged[1] == {'params': [c], 'lr': 2.0}


def test_grouping_changes_no_number(tmp_path):
    """Two groups train as MMEngine's one group per parameter does."""
    grouped = make_runner(tmp_path / 'a', epochs=1).train()
    keys = {'mask_token': {'decay_mult': 1.0}, 'pos_embed': {'decay_mult': 1.0}}
    rule = {'bias_decay_mult': 0.0, 'flat_decay_mult': 0.0, 'custom_keys': keys}
    wrapper = {'constructor': 'DefaultOptimWrapperConstructor', 'paramwise_cfg': rule}
    single = make_runner(tmp_path / 'b', epochs=1, wrapper=wrapper).train()
    for name, tensor in grouped.state_dict().items():
        assert torch.equal(tensor, single.state_dict()[name]), name


@pytest.mark.parametrize(
    'options', [{'type': 'SGD'}, {'type': 'AdamW', 'foreach': True}, {'type': 'AdamW', 'fused': True}]
)
def test_other_optimizers_and_implementations(options):
    model = ToyAutoencoder(drop=0.0)
    cfg = {'type': 'OptimWrapper', 'optimizer': {'lr': 0.1} | options}
    wrapper = GroupedOptimWrapperConstructor(cfg)(model)
    before = copy.deepcopy(model.state_dict())
    model.train_step({'imgs': torch.ones(2, 1, 8, 8)}, wrapper)
    assert not torch.equal(before['decoder.proj.bias'], model.state_dict()['decoder.proj.bias'])


def test_autocast_computes_in_bf16_and_keeps_weights_in_fp32():
    model = nn.Linear(4, 4)
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), 0.1), clip_grad={'max_norm': 0.5})
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 4))
    assert out.dtype == torch.bfloat16
    before = model.weight.detach().clone()
    wrapper.update_params(out.float().square().sum() * 100)
    assert model.weight.dtype == torch.float32
    step = torch.cat([(model.weight - before).flatten(), model.bias.detach() * 0])
    assert 0 < step.norm() <= 0.05 + 1e-6  # lr x the norm to which gradients are clipped
    with pytest.raises(UserError, match="dtype='float16' must be 'bfloat16' or 'float32'"):
        AutocastOptimWrapper(dtype='float16', optimizer=wrapper.optimizer)
    exact = AutocastOptimWrapper(dtype='float32', optimizer=wrapper.optimizer)
    with exact.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == torch.float32


def test_autocast_run_stays_close_to_fp32_and_accumulates(tmp_path):
    exact = make_runner(tmp_path / 'a', epochs=1, wrapper={'accumulative_counts': 3}).train()
    wrapper = {'type': 'AutocastOptimWrapper', 'accumulative_counts': 3}
    runner = make_runner(tmp_path / 'b', epochs=1, wrapper=wrapper)
    assert isinstance(runner.train().state_dict()['encoder.proj.weight'], torch.Tensor)
    assert isinstance(runner.optim_wrapper, OptimWrapper)
    ours, theirs = (m.state_dict()['encoder.proj.weight'] for m in (runner.model, exact))
    assert not torch.equal(ours, theirs) and torch.allclose(ours, theirs, atol=0.03)


def test_accumulation_equals_the_large_batch(tmp_path):
    """6 batches of 2, accumulated by 3, against 2 batches of 6, without dropout and with one mask."""
    mask = torch.tensor([True, True, True, False]).view(1, 1, 2, 2)

    class Fixed(nn.Module):
        def forward(self, imgs):
            return mask.expand(len(imgs), -1, -1, -1)

    models = []
    for name, batch, counts in (('a', 2, 3), ('b', 6, 1)):
        torch.manual_seed(0)
        model = ToyAutoencoder(drop=0.0)
        model.masking = Fixed()
        data = loader(batch=batch, sampler={'type': 'DefaultSampler', 'shuffle': False})
        options = {'wrapper': {'accumulative_counts': counts}, 'param_scheduler': None}
        models.append(make_runner(tmp_path / name, model=model, epochs=1, train_dataloader=data, **options).train())
    for name, tensor in models[0].state_dict().items():
        assert torch.allclose(tensor, models[1].state_dict()[name], atol=1e-5), name


@pytest.mark.parametrize('constructor', [GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor])
def test_an_encoder_has_a_share_of_the_learning_rate_and_its_mask_token_has_all_of_it(constructor):
    model = ToyAutoencoder()
    model.encoder.mask_token = nn.Parameter(torch.zeros(8))
    model.encoder.layer_depth = lambda name, grouping='block': (1, 1)
    rules = {'encoder_lr_mult': 0.1}
    if constructor is LayerDecayOptimWrapperConstructor:
        rules['decay_rate'] = 0.5  # all of it is in the last layer
    optimizer = {'type': 'AdamW', 'lr': 1e-2, 'weight_decay': 0.05}
    groups = constructor({'type': 'OptimWrapper', 'optimizer': optimizer}, rules)(model).optimizer.param_groups
    settings = {p: (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    assert settings[model.encoder.proj.weight] == pytest.approx((1e-3, 0.05))
    assert settings[model.encoder.norm.weight] == pytest.approx((1e-3, 0.0))  # the rule of the decay holds
    assert settings[model.encoder.mask_token][0] == settings[model.decoder.proj.weight][0] == 1e-2
    with pytest.raises(UserError, match='encoder_lr_mult'):
        constructor({'type': 'OptimWrapper', 'optimizer': optimizer}, rules | {'encoder_lr_mult': -1})
