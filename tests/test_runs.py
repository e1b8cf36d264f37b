"""What a run notes about itself, and tools/runs.py, which reads it."""

import json
import math
import os
import socket
import time
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from engine_toys import make_runner
from mae_toolkit.apis import load_config, train
from mae_toolkit.apis.run_list import find_run_folders, summarize_run_folder
from mae_toolkit.apis.run_metrics import CACHE, rank_runs
from mae_toolkit.apis.run_show import show_run
from mae_toolkit.apis.run_table import list_runs, select_runs
from mae_toolkit.engine import Runner
from mae_toolkit.engine.hooks import run_record
from mae_toolkit.engine.hooks.run_record import hash_config, record_failure
from mae_toolkit.engine.preemption import Preempted
from mae_toolkit.errors import UserError
from mae_toolkit.run_files import (
    HEARTBEAT,
    RUN,
    Heartbeat,
    RunFile,
    RunStart,
    note_end,
    read_git_commit,
    read_heartbeat,
    read_run,
    write_heartbeat,
    write_run,
)
from tiny import QUICKSTART, call, refuse

HOST = socket.gethostname()
NO_PID = 2**22 + 1  # above the largest that Linux gives


class Fail(Hook):
    def __init__(self, at, error):
        self.at, self.error = at, error

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            raise self.error


def test_a_run_notes_what_it_is_and_each_start(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    first = read_run(tmp_path)
    assert (first.max_iters, first.max_epochs, first.iterations_per_epoch) == (6, 1, 6)
    (start,) = first.starts
    assert (start.status, start.iteration, start.ranks, start.host, start.pid) == ('finished', 0, 1, HOST, os.getpid())
    assert {'python', 'torch', 'mmengine', 'mae_toolkit'} <= start.versions.keys()
    assert (tmp_path / start.log).is_dir() and start.time <= start.ended <= time.time()
    beat = read_heartbeat(tmp_path)
    assert (beat.iteration, beat.epoch, beat.host) == (6, 1, HOST) and beat.images_per_s > 0

    make_runner(tmp_path, epochs=2, resume=True).train()
    again = read_run(tmp_path)
    assert again.starts[0] == start and (again.starts[1].iteration, again.max_iters) == (6, 12)
    make_runner(tmp_path, epochs=1).train()  # anew
    assert len(read_run(tmp_path).starts) == 1


def test_what_killed_writes_have_left_is_removed(tmp_path):
    for name in (RUN, HEARTBEAT):
        (tmp_path / f'.{name}.123.partial').write_text('{')
    make_runner(tmp_path, epochs=1).train()
    assert not list(tmp_path.glob('.*.partial'))


def test_heartbeats_come_every_few_seconds(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(run_record, 'write_heartbeat', lambda folder, beat: written.append(beat.iteration))
    hooks = {'logger': {'type': 'LoggerHook', 'interval': 2}}
    beats = {0: [0, 1, 2, 3, 4, 5, 6, 6, 6], 10**6: [0, 6, 6]}  # at least at the start, a checkpoint and the end
    for seconds, expected in beats.items():
        written.clear()
        hooks['run_record'] = {'type': 'RunRecordHook', 'seconds': seconds}
        make_runner(tmp_path / str(seconds), epochs=1, default_hooks=hooks).train()
        assert written == expected


def test_a_run_goes_on_when_it_cannot_note_it(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(run_record, 'write_heartbeat', fail)
    monkeypatch.setattr(run_record, 'write_run', fail)
    make_runner(tmp_path, epochs=1).train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('tools/runs.py') == 1 and 'No space left' in log


def fail_with(folder, error, at=3, **kwargs):
    with pytest.raises(type(error)), record_failure(folder):
        make_runner(folder, hooks=[Fail(at, error)], epochs=1, **kwargs).train()
    return summarize_run_folder(folder)


def test_an_error_that_ends_a_run_is_noted(tmp_path):
    summary = fail_with(tmp_path / 'a', ValueError('\n  the reason\nmore'))
    assert (summary.state, summary.error, summary.iteration) == ('failed', 'ValueError: the reason', 0)
    summary = fail_with(tmp_path / 'b', KeyboardInterrupt())
    assert (summary.state, summary.error) == ('failed', 'KeyboardInterrupt: KeyboardInterrupt')
    summary = fail_with(tmp_path / 'c', Preempted('saved'))
    assert (summary.state, summary.error) == ('preempted', None)


def test_what_was_noted_first_stays(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    note_end(tmp_path, 0.0, 'failed', 'later')
    assert read_run(tmp_path).starts[-1].status == 'finished'


def test_an_error_before_the_start_is_not_noted_for_the_start_before_it(tmp_path):
    write_run(tmp_path, RunFile('', '', 6, starts=[RunStart(time.time() - 1000, [], HOST, NO_PID)]))
    with pytest.raises(ValueError, match='early'), record_failure(tmp_path):
        raise ValueError('early')
    assert read_run(tmp_path).starts[-1].status == 'running'


def test_training_by_the_api_notes_its_error(tmp_path, monkeypatch):
    def make(cfg):
        return make_runner(cfg.work_dir, hooks=[Fail(2, RuntimeError('lost'))], epochs=1)

    monkeypatch.setattr(Runner, 'from_cfg', make)
    with pytest.raises(RuntimeError, match='lost'):
        train(load_config(QUICKSTART), tmp_path)
    assert summarize_run_folder(tmp_path).error == 'RuntimeError: lost'


def test_equal_trainings_have_equal_hashes():
    cfg, options = load_config(QUICKSTART), {'work_dir': 'elsewhere', 'launcher': 'slurm'}
    assert hash_config(cfg) == hash_config(load_config(QUICKSTART, options))
    assert hash_config(cfg) != hash_config(load_config(QUICKSTART, {'randomness.seed': 7}))


def make_run(folder, status='running', age=0.0, host=HOST, pid=None, beat_age=None, error=None, loss=1.0, **kwargs):
    """A folder with what a run notes."""
    now = time.time()
    start = RunStart(now - age, ['train.py'], host, pid or os.getpid(), status=status, error=error)
    given = {'config': 'vit.py', 'config_hash': 'abc', 'max_iters': 100} | kwargs
    write_run(folder, RunFile(**given, starts=[start]))
    if beat_age is not None:
        write_heartbeat(folder, Heartbeat(now - beat_age, 50, 1, loss, 64.0, host, start.pid))
    return folder


def make_logs(folder, **series):
    """The logs of an old run."""
    path = folder / '20200101_000000' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    rows = [{name: value, 'step': i + 1} for name, values in series.items() for i, value in enumerate(values)]
    path.write_text(''.join(json.dumps({k.replace('__', '/'): v for k, v in row.items()}) + '\n' for row in rows))
    return folder


@pytest.mark.parametrize(
    ('given', 'state'),
    [
        (dict(beat_age=5), 'running'),
        (dict(beat_age=5, age=10**6), 'running'),
        (dict(beat_age=5, pid=NO_PID), 'dead'),
        (dict(beat_age=5, pid=NO_PID, host='other'), 'running'),
        (dict(beat_age=601, age=10**6), 'dead'),
        (dict(age=5), 'running'),
        (dict(age=601), 'dead'),
        (dict(status='preempted', age=10**6), 'preempted'),
        (dict(status='failed', age=10**6), 'failed'),
        (dict(status='of a later version'), 'unknown'),
    ],
)
def test_states(tmp_path, given, state):
    assert summarize_run_folder(make_run(tmp_path, **given)).state == state


def test_a_run_that_lost_a_rank_has_failed_with_the_report_of_the_watch(tmp_path):
    folder = make_run(tmp_path, age=500, pid=NO_PID)
    report = folder / 'hangs' / '20260101_000000' / 'report.txt'
    report.parent.mkdir(parents=True)
    report.write_text('Rank 1 on n2 is gone.\nrank 0: waits\n')
    summary = summarize_run_folder(folder)
    assert (summary.state, summary.error) == ('failed', 'Rank 1 on n2 is gone.')
    os.utime(report, (0, 0))  # of an earlier start
    summary = summarize_run_folder(folder)
    assert (summary.state, summary.error) == ('dead', None)


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / 'new' / 'a', beat_age=5, loss=0.5)
    make_run(tmp_path / 'b', 'failed', age=100, error='ValueError: no', config='swin.py')
    make_logs(tmp_path / 'old', train__loss=[3.0, 2.0], val__loss=[2.5, 2.6])
    make_logs(tmp_path / 'damaged', train__loss=[math.nan, 4.0, 5.0], watch__knn=[0.1, 0.9, 0.3])
    (tmp_path / 'damaged' / RUN).write_text('{"config": ')
    (tmp_path / 'damaged' / HEARTBEAT).write_text('[]')
    (tmp_path / 'no run').mkdir()
    (tmp_path / 'no run' / 'config.py').write_text('a = 1')
    return tmp_path


def names(found):
    return [run.path.name for run in found]


def test_all_runs_are_found_and_listed(runs):
    found = {run.path.name: run for run in list_runs(runs)}
    assert set(found) == {'a', 'b', 'old', 'damaged'}
    assert (found['a'].state, found['a'].progress, found['a'].loss, found['a'].images_per_s) == (
        'running',
        0.5,
        0.5,
        64,
    )
    assert (found['old'].state, found['old'].iteration, found['old'].loss) == ('unknown', 2, 2.0)
    assert found['damaged'].iteration == 3 and len(found['damaged'].warnings) == 2
    assert all('remove it' in warning for warning in found['damaged'].warnings)
    status, text = call('runs', 'ls', runs)
    assert status == 0 and 'b: ValueError: no' in text and f'warning: {runs / "damaged" / RUN}' in text
    line = next(line for line in text.splitlines() if line.startswith(str(Path('new', 'a'))))
    assert line.split()[1:6] == ['running', '50%', '50/100', '0.5000', '64']


@pytest.mark.parametrize('values', ['7', '{"config": "a"}', '{"starts": 3}', '{"starts": [{"time": "x"}]}', '[]', ''])
def test_a_damaged_file_is_named_whatever_it_holds(tmp_path, values):
    (tmp_path / RUN).write_text(values)
    (tmp_path / HEARTBEAT).write_text(values)
    assert {Path(w.split()[0]).name for w in summarize_run_folder(tmp_path).warnings} == {RUN, HEARTBEAT}


def test_what_a_later_version_adds_is_left_out(tmp_path):
    values = json.loads((make_run(tmp_path, beat_age=1) / RUN).read_text())
    values['new'] = values['starts'][0]['new'] = 1
    (tmp_path / RUN).write_text(json.dumps(values))
    summary = summarize_run_folder(tmp_path)
    assert summary.state == 'running' and not summary.warnings


def test_filters_and_orders(runs):
    found = list_runs(runs)
    assert names(select_runs(found, ['failed', 'running'], sort='name')) == ['b', 'a']
    assert names(select_runs(found, name='swin')) == ['b']
    assert names(select_runs(found, name='*/new/*')) == ['a']
    assert names(select_runs(found, sort='loss')) == ['a', 'old', 'damaged', 'b']
    assert names(select_runs(found, sort='age'))[-1] == 'b'
    listed = json.loads(call('runs', 'ls', runs, '--json', '--state', 'running')[1])
    assert [run['progress'] for run in listed] == [0.5]
    assert call('runs', 'ls', runs, '--state', 'preempted')[1].strip() == f'No such runs in {runs}.'


def test_the_best_runs_by_a_metric(runs):
    folders = find_run_folders(runs)
    (only,) = rank_runs(runs, folders, 'watch/knn', less=False)
    assert (only.path.name, only.value, only.step, only.last) == ('damaged', 0.9, 2, 0.3)
    ranked = rank_runs(runs, folders, 'train/loss', less=True)
    assert [(run.path.name, run.value, run.last) for run in ranked] == [('old', 2.0, 2.0), ('damaged', 4.0, 5.0)]
    assert [run.value for run in rank_runs(runs, folders, 'train/loss', less=False)] == [5.0, 3.0]
    status, text = call('runs', 'best', runs, '--metric', 'train/loss')
    assert status == 0 and text.splitlines()[1].split() == ['old', '2', '2', '2']
    assert call('runs', 'best', runs, '--metric', 'watch/knn')[1].split()[-4:] == ['damaged', '0.9', '2', '0.3']
    assert json.loads(call('runs', 'best', runs, '--metric', 'val/loss', '--greater', '--json')[1])[0]['value'] == 2.6


def test_the_cache_changes_nothing(runs, monkeypatch):
    folders = find_run_folders(runs)
    first = rank_runs(runs, folders, 'train/loss', less=True)
    assert (runs / CACHE).is_file()
    with monkeypatch.context() as patch:  # nothing is read again
        patch.setattr('mae_toolkit.apis.run_metrics.read_scalars', None)
        assert rank_runs(runs, folders, 'train/loss', less=True) == first
    for text in ('', '{}', '[]', '{"version": 1, "runs": {"old": 3}}', '{"version": 0, "runs": {}}'):
        (runs / CACHE).write_text(text)
        assert rank_runs(runs, folders, 'train/loss', less=True) == first
    (runs / CACHE).unlink()
    with open(runs / 'old' / '20200101_000000' / 'vis_data' / 'scalars.json', 'a') as log:
        log.write('{"train/loss": 1.5, "step": 3}\n')
    assert rank_runs(runs, folders, 'train/loss', less=True)[0].value == 1.5
    with open(runs / 'old' / '20200101_000000' / 'vis_data' / 'scalars.json', 'a') as log:
        log.write('{"train/loss": 1.25, "step": 4}\n')
    assert rank_runs(runs, folders, 'train/loss', less=True)[0].value == 1.25  # the cache is not believed
    monkeypatch.setattr(
        'mae_toolkit.apis.run_metrics.atomic_write', lambda *_: (_ for _ in ()).throw(OSError(30, 'ro'))
    )
    (runs / CACHE).unlink()
    assert rank_runs(runs, folders, 'train/loss', less=True)[0].value == 1.25


def test_a_run_is_shown_with_what_is_different(tmp_path):
    for name, seed in {'a': 1, 'b': 2}.items():
        folder = make_run(tmp_path / name, beat_age=1, config=str(QUICKSTART))
        make_logs(folder, train__loss=[3.0, 2.0])
        load_config(QUICKSTART, {'randomness.seed': seed, 'work_dir': name}).dump(folder / 'quickstart.py')
    status, text = call('runs', 'show', tmp_path / 'b')
    assert status == 0 and text.splitlines()[-1].split() == ['randomness.seed', '0', '2']
    assert 'train/loss  2  iteration 2' in text and 'running, last sign' in text and 'from iteration 0' in text
    text = show_run(tmp_path / 'b', against=tmp_path / 'a')
    assert text.splitlines()[-1].split() == ['randomness.seed', '1', '2']
    assert show_run(tmp_path / 'b', against=tmp_path / 'b').endswith(f'config: as {tmp_path / "b"}')
    make_run(tmp_path / 'b', config='gone.py')
    assert 'is not there any more' in show_run(tmp_path / 'b')
    assert 'the run left none' in show_run(make_logs(tmp_path / 'old', loss=[1.0]))


def test_the_commands_of_the_page(tmp_path):
    for name, seed in {'vit': 1, 'convnext': 2}.items():
        folder = make_run(tmp_path / name, 'failed', error='ValueError: no', beat_age=1, config=str(QUICKSTART))
        make_logs(folder, train__loss=[3.0, 2.0], val__loss_pixel=[2.0, seed], speed__images_per_s=[1.0, 2.0])
        load_config(QUICKSTART, {'randomness.seed': seed}).dump(folder / 'quickstart.py')
    status, text = call('runs', 'ls', tmp_path, '--state', 'running', 'dead', 'failed')
    assert status == 0 and 'vit: ValueError: no' in text and 'convnext: ValueError: no' in text
    assert call('runs', 'best', tmp_path, '--metric', 'val/loss_pixel')[1].splitlines()[1].split()[:2] == ['vit', '1']
    text = call('runs', 'show', tmp_path / 'vit', '--against', tmp_path / 'convnext')[1]
    assert text.splitlines()[-1].split() == ['randomness.seed', '2', '1']
    keys = ['--keys', 'loss', 'speed/images_per_s', '--out', tmp_path / 'curves.png']
    assert 'did not log the time' in refuse('analyze_logs', tmp_path / 'vit', *keys, '--x', 'hours', plain=True)
    assert call('analyze_logs', tmp_path / 'vit', tmp_path / 'convnext', *keys)[0] == 0
    assert (tmp_path / 'curves.png').is_file()


def test_mistakes(runs):
    assert 'There is no folder' in refuse('runs', 'ls', runs / 'lost', plain=True)
    assert 'There is no run' in refuse('runs', 'show', runs / 'lost', plain=True)
    assert 'neither run.json nor logs' in refuse('runs', 'show', runs / 'no run', plain=True)
    assert 'did you mean train/loss' in refuse('runs', 'best', runs, '--metric', 'train/los', plain=True)
    with pytest.raises(UserError, match='has logged any values'):
        rank_runs(runs, [runs / 'b'], 'train/loss', less=True)
    folder = make_run(runs / 'c')
    load_config(QUICKSTART).dump(folder / 'quickstart.py')
    with pytest.raises(UserError, match='holds no config'):
        show_run(folder, against=runs / 'old')


def test_the_commit_is_read_without_git(tmp_path):
    assert read_git_commit(tmp_path) is None
    git = tmp_path / '.git'
    (git / 'refs' / 'heads').mkdir(parents=True)
    inner = tmp_path / 'package'
    inner.mkdir()
    (git / 'HEAD').write_text('ref: refs/heads/main\n')
    assert read_git_commit(inner) is None
    (git / 'packed-refs').write_text('# pack-refs\n' + 'b' * 40 + ' refs/heads/main\n')
    assert read_git_commit(inner) == 'b' * 40
    (git / 'refs' / 'heads' / 'main').write_text('a' * 40 + '\n')
    assert read_git_commit(inner) == 'a' * 40
    second = git / 'worktrees' / 'second'
    second.mkdir(parents=True)
    (second / 'HEAD').write_text('ref: refs/heads/main\n')
    (second / 'commondir').write_text('../..\n')
    (inner / '.git').write_text(f'gitdir: {second}\n')
    assert read_git_commit(inner) == 'a' * 40
    (git / 'HEAD').write_text('c' * 40 + '\n')
    assert read_git_commit(tmp_path) == 'c' * 40
    (git / 'HEAD').unlink()
    assert read_git_commit(tmp_path) is None
