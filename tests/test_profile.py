"""A profile of some steps: what is written, and that nothing else changes."""

import gzip
import json

import pytest
import torch

from engine_toys import make_runner
from mae_toolkit.apis import load_config, train
from mae_toolkit.engine import Runner
from mae_toolkit.engine.hooks import ProfileHook
from mae_toolkit.errors import UserError
from tiny import QUICKSTART, call


def run(folder, hooks=(), **kwargs):
    runner = make_runner(folder, hooks=hooks, epochs=1, **kwargs)
    runner.train()
    return runner.model.state_dict()


def count_steps(folder):
    """Number of steps in the trace."""
    trace = json.loads(gzip.decompress((folder / 'profile' / 'trace.json.gz').read_bytes()))
    names = [event.get('name', '') for event in trace['traceEvents']]
    assert any(name.startswith('aten::') for name in names)
    return names.count('training step')


def test_the_steps_that_were_asked_for_are_recorded(tmp_path):
    run(tmp_path, [ProfileHook(2, 4)])
    assert count_steps(tmp_path) == 2
    table = (tmp_path / 'profile' / 'operators.txt').read_text()
    assert table.startswith('steps 3 to 4 of a start at iteration 0\n') and 'aten::' in table


def test_a_profile_changes_no_weight(tmp_path):
    expected = run(tmp_path / 'a')
    for name, tensor in run(tmp_path / 'b', [ProfileHook(0, 6)]).items():
        assert torch.equal(tensor, expected[name]), name
    assert count_steps(tmp_path / 'b') == 6


def test_a_run_that_ends_meanwhile_leaves_what_was_recorded(tmp_path):
    run(tmp_path, [ProfileHook(4, 100)])
    assert (tmp_path / 'profile' / 'operators.txt').read_text().startswith('steps 5 to 6 ')


@pytest.mark.parametrize('first', [6, 10])
def test_a_run_that_ends_before_says_so(tmp_path, first):
    run(tmp_path, [ProfileHook(first, 15)])
    assert not (tmp_path / 'profile').exists()
    assert f'ended after 6 steps, and {first} come before' in next(tmp_path.glob('*/*.log')).read_text()


def test_the_api_profiles_steps_counted_from_its_start(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: make_runner(cfg.work_dir, epochs=2, resume=True))
    train(load_config(QUICKSTART), tmp_path, resume='auto', profile=(1, 3))
    assert (tmp_path / 'profile' / 'operators.txt').read_text().startswith('steps 2 to 3 of a start at iteration 6\n')


def test_the_command_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: make_runner(cfg.work_dir, epochs=5))
    assert call('train', QUICKSTART, '--work-dir', tmp_path, '--profile', '--profile-steps', '20:25')[0] == 0
    assert (tmp_path / 'profile' / 'operators.txt').read_text().startswith('steps 21 to 25 ')
    assert call('train', QUICKSTART, '--work-dir', tmp_path / 'b', '--profile')[0] == 0
    assert (tmp_path / 'b' / 'profile' / 'operators.txt').read_text().startswith('steps 11 to 15 ')


def test_steps_that_cannot_be_profiled_are_refused(tmp_path):
    with pytest.raises(UserError, match='5:5'):
        ProfileHook(5, 5)
    for steps in ('5:5', '5', 'a:b', ':'):
        status, text = call('train', QUICKSTART, '--profile-steps', steps)
        assert status == 2 and f'{steps} is not FIRST:LAST' in text.splitlines()[-1]
