"""What the hooks of a run cost."""

import json
import time

import pytest
from mmengine.hooks import Hook

from engine_toys import make_runner
from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.hooks import benchmark_hooks, report
from mae_toolkit.engine import Runner
from mae_toolkit.errors import UserError
from tiny import QUICKSTART, run_here


class Slow(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(0.01)


def test_each_hook_has_its_time(monkeypatch):
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: make_runner(cfg.work_dir, [Slow()]))
    result = benchmark_hooks(load_config(QUICKSTART), 6)
    slow = result['hooks']['Slow']
    assert slow['seconds_per_step'] >= 0.01 and slow['longest'] >= 0.01
    assert slow['share'] == pytest.approx(slow['seconds_per_step'] / result['seconds_per_step'])
    assert sum(one['share'] for one in result['hooks'].values()) < 1
    assert result['hooks']['SpeedHook']['seconds_per_step'] > 0 and 'RunRecordHook' in result['hooks']
    assert 'Slow' in report(result).splitlines()[2]
    with pytest.raises(UserError, match='fewer than 25'):
        benchmark_hooks(load_config(QUICKSTART), 20)


def test_the_tool(tmp_path):
    out = tmp_path / 'hooks.json'
    text = run_here('benchmark', 'hooks', QUICKSTART, '--steps', 2, '--json', out)
    (result,) = json.loads(out.read_text())
    assert result['steps'] == 2 and 'SpeedHook' in text and 'share of it' in text
