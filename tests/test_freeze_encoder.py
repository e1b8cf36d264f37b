"""FreezeEncoderHook: a pretrained encoder waits for a fresh decoder."""

import copy
import logging

import pytest
import torch
from mmengine.hooks import Hook

from engine_toys import make_runner
from mae_toolkit.engine.hooks import FreezeEncoderHook
from mae_toolkit.errors import UserError
from small_cnn import cnn_runner
from test_distributed import run_pair


class Look(Hook):
    """Keeps what the model is before and after each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.states, self.grads, self.modes, self.counts = [], [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.modes.append([m.training for m in runner.model.encoder.modules() if 'BatchNorm' in type(m).__name__])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(copy.deepcopy(runner.model.state_dict()))
        self.grads.append([p.requires_grad for p in runner.model.encoder.parameters()])
        self.counts.append(len(runner.optim_wrapper.optimizer.state))


def is_same(a, b, part='encoder.'):
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(part))


def run(work_dir, make=cnn_runner, steps=3, lr_scale=0.0, **kwargs):
    look = Look()
    runner = make(work_dir, [{'type': 'FreezeEncoderHook', 'steps': steps, 'lr_scale': lr_scale}, look], **kwargs)
    start = copy.deepcopy(runner.model.state_dict())
    runner.train()
    return runner, start, look


def test_a_frozen_encoder_keeps_every_bit_and_then_trains(tmp_path):
    runner, start, look = run(tmp_path, epochs=1)
    encoder = list(runner.model.encoder.parameters())
    assert [is_same(start, state) for state in look.states] == [True] * 3 + [False] * 3  # running statistics, too
    assert not any(is_same(start, state, 'decoder.') for state in look.states)
    assert not any(any(grads) for grads in look.grads[:3]) and all(all(grads) for grads in look.grads[3:])
    assert not any(any(modes) for modes in look.modes[:3]) and all(all(modes) for modes in look.modes[3:])
    assert look.counts[3] - look.counts[2] == len(encoder) and look.counts[0] == look.counts[2]
    # a state that begins with the first step that the encoder takes
    assert {int(runner.optim_wrapper.optimizer.state[p]['step']) for p in encoder} == {3}


def test_what_is_frozen_for_good_stays_so(tmp_path):
    runner, _, look = run(tmp_path, epochs=1, encoder={'frozen_stages': 0, 'norm_eval': True})
    frozen = [not p.requires_grad for p in runner.model.encoder.parameters()]
    assert any(frozen) and not all(frozen)
    assert look.grads[-1] == [not f for f in frozen] and not any(look.modes[-1])


def test_accumulated_gradients_count_as_one_step(tmp_path):
    _, start, look = run(tmp_path, steps=1, epochs=1, wrapper={'accumulative_counts': 2})
    same = [is_same(start, state, 'encoder.body.layer1.0.conv1.weight') for state in look.states]
    assert same == [True, True, True, False, False, False]  # running statistics follow the third iteration
    assert not any(look.grads[1]) and all(look.grads[2])


def test_modes_hold_behind_an_epoch_and_a_validation(tmp_path):
    _, start, look = run(tmp_path, steps=8)
    assert [is_same(start, state) for state in look.states] == [True] * 8 + [False] * 4


@pytest.mark.parametrize('lr_scale', [0.0, 0.25])
def test_a_run_that_is_resumed_while_the_encoder_waits_ends_the_same(tmp_path, lr_scale):
    every = {'interval': 1, 'by_epoch': False}
    whole, _, _ = run(tmp_path / 'a', lr_scale=lr_scale, steps=4, checkpoint=every)
    for at in (2, 4):  # while it waits, and when it begins
        resumed, _, _ = run(
            tmp_path / str(at),
            lr_scale=lr_scale,
            steps=4,
            load_from=str(tmp_path / 'a' / f'iter_{at}.pth'),
            resume=True,
        )
        assert is_same(whole.model.state_dict(), resumed.model.state_dict(), '')


def test_a_slowed_encoder_moves_as_with_a_lower_learning_rate(tmp_path):
    """Against one step with a group of parameters for the encoder, whose rate is a quarter."""
    wrapper = {'constructor': 'DefaultOptimWrapperConstructor'}
    _, start, look = run(tmp_path / 'a', steps=1, lr_scale=0.25, epochs=1, wrapper=wrapper)
    rates = {'paramwise_cfg': {'custom_keys': {'encoder': {'lr_mult': 0.25}}}}
    other = Look()
    torch.manual_seed(0)
    runner = cnn_runner(tmp_path / 'b', [other], epochs=1, wrapper=wrapper | rates)
    runner.model.load_state_dict(start)
    runner.train()
    ours, theirs = look.states[0], other.states[0]
    moved = 0
    for name, first in start.items():
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-7, msg=name)
        moved += int(not torch.equal(first, ours[name]))
    assert moved > 20 and not is_same(ours, look.states[1])


def test_the_mask_token_of_an_encoder_trains_from_the_start(tmp_path):
    looked = Look()
    runner = make_runner(tmp_path, [{'type': 'FreezeEncoderHook', 'steps': 3}, looked], epochs=1, param_scheduler=None)
    encoder = runner.model.encoder
    encoder.mask_token, runner.model.decoder.mask_token = runner.model.decoder.mask_token, None
    runner.model.decoder.forward = lambda tokens: runner.model.decoder.proj(tokens + encoder.mask_token)
    runner.model.decoder.mask_token = torch.nn.Parameter(torch.zeros(8))
    runner.train()
    first, third = looked.states[0], looked.states[2]
    assert not torch.equal(first['encoder.mask_token'], third['encoder.mask_token'])
    assert torch.equal(first['encoder.proj.weight'], third['encoder.proj.weight'])


def test_an_encoder_that_never_trains_is_warned_about(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger='mmengine'):
        runner = cnn_runner(tmp_path, [{'type': 'FreezeEncoderHook', 'steps': 6}], epochs=1)
        runner.logger.addHandler(caplog.handler)
        runner.train()
    assert 'waits for 6 steps (6 iterations), and the training has 6 iterations' in caplog.text
    assert all(p.requires_grad for p in runner.model.encoder.parameters())  # it is released all the same


@pytest.mark.parametrize('wrong', [{'steps': -1}, {'steps': 1.5}, {'steps': 1, 'lr_scale': 2}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match='FreezeEncoderHook: '):
        FreezeEncoderHook(**wrong)


def train_frozen(rank, folder):
    """Six steps of two processes, of which the encoder waits for three."""
    torch.manual_seed(0)
    runner = make_runner(
        folder / 'pair', [{'type': 'FreezeEncoderHook', 'steps': 3}], launcher='pytorch', param_scheduler=None
    )  # fmt: skip
    model = runner.model.module
    start, states = copy.deepcopy(model.state_dict()), []
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optimizer = runner.optim_wrapper.optimizer
    optimizer.register_step_post_hook(lambda *_: states.append(copy.deepcopy(model.state_dict())))
    runner.train()
    sizes = [not is_same(start, state) for state in states]
    return {
        'moved': sizes,
        'state': model.state_dict(),
        'steps': int(optimizer.state[model.encoder.proj.weight]['step']),
    }


@pytest.mark.process
def test_two_processes_wait_and_go_on_together(tmp_path):
    one, other = run_pair(train_frozen, tmp_path)
    assert one['moved'] == other['moved'] == [False] * 3 + [True] * 3
    assert one['steps'] == 3 and is_same(one['state'], other['state'], '')
