"""A run that is refused or told to stop under torchrun ends, however many restarts are allowed."""

import pytest

from mae_toolkit.cli import run_tool
from mae_toolkit.engine.preemption import PREEMPTED, RANK_LOST, Preempted
from mae_toolkit.errors import UserError
from mae_toolkit.restarts import note_end, note_failure, read_end


def start(monkeypatch, folder, attempt, main):
    """Run a tool as rank 0 of an attempt of torchrun; returns its exit status."""
    report = folder / f'attempt_{attempt}' / '0' / 'error.json'
    report.parent.mkdir(parents=True)
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(report))
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', str(attempt))
    with pytest.raises(SystemExit) as end:
        run_tool(main)
    return end.value.code


@pytest.mark.parametrize(
    ('error', 'status', 'words'),
    [(UserError('It is full.'), 2, 'error'), (Preempted('It came.'), PREEMPTED, 'stopped')],
)
def test_what_ends_on_purpose_is_not_begun_again(error, status, words, tmp_path, monkeypatch, capsys):
    began = []

    def main():
        began.append(None)
        raise error

    monkeypatch.delenv('WORLD_SIZE', raising=False)
    assert start(monkeypatch, tmp_path, 0, main) == status
    for attempt in (1, 2):
        capsys.readouterr()
        assert start(monkeypatch, tmp_path, attempt, main) == status
        assert capsys.readouterr().err.strip() == f'{words}: {error}'
    assert len(began) == 1


def test_what_failed_begins_again(tmp_path, monkeypatch):
    began = []

    def main():
        began.append(None)
        raise ValueError('of a library')

    for attempt in (0, 1):
        report = tmp_path / f'attempt_{attempt}' / '0' / 'error.json'
        report.parent.mkdir(parents=True)
        monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(report))
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', str(attempt))
        with pytest.raises(ValueError, match='of a library'):
            run_tool(main)
    assert len(began) == 2


def test_a_note_is_of_the_same_torchrun_and_whole(tmp_path):
    first = {'TORCHELASTIC_ERROR_FILE': str(tmp_path / 'a' / 'attempt_0' / '0' / 'error.json')}
    again = {'TORCHELASTIC_ERROR_FILE': str(tmp_path / 'a' / 'attempt_1' / '3' / 'error.json')}
    note_end(2, 'no', first)
    assert read_end(first) is None  # a first attempt begins
    assert read_end(again | {'TORCHELASTIC_RESTART_COUNT': '1'}) == (2, 'no')
    other = {'TORCHELASTIC_ERROR_FILE': str(tmp_path / 'b' / 'attempt_1' / '3' / 'error.json')}
    assert read_end(other | {'TORCHELASTIC_RESTART_COUNT': '1'}) is None
    note_end(2, 'no', {})
    assert read_end({'TORCHELASTIC_RESTART_COUNT': '1'}) is None
    (tmp_path / 'a' / 'ended_on_purpose.json').write_text('[2')
    assert read_end(again | {'TORCHELASTIC_RESTART_COUNT': '1'}) is None


@pytest.mark.parametrize(
    'error', [UserError('It is full.\nNo.'), ValueError('It is full.'), ImportError('It is full.')]
)
def test_a_failure_that_comes_again_is_noted_for_the_job(error, tmp_path, monkeypatch):
    def main():
        raise error

    monkeypatch.setenv('FAILURE_NOTE', str(tmp_path / 'note'))
    with pytest.raises((SystemExit, type(error))):
        run_tool(main)
    assert (tmp_path / 'note').read_text() == f'{type(error).__name__}: It is full.\n'


def test_what_another_start_may_get_past_is_not_noted(tmp_path, monkeypatch):
    env = {'FAILURE_NOTE': str(tmp_path / 'note')}
    for error in (
        RuntimeError('Connection closed by peer'),
        ConnectionResetError(),
        OSError(28, 'full'),
        MemoryError(),
    ):
        note_failure(error, env)
    monkeypatch.setenv('FAILURE_NOTE', str(tmp_path / 'note'))
    with pytest.raises(SystemExit):
        run_tool(lambda: (_ for _ in ()).throw(Preempted('It came.')))
    assert not (tmp_path / 'note').exists()
    note_failure(UserError('It is full.'), {})


def test_a_killed_data_worker_is_no_mistake_of_the_user(monkeypatch, capsys):
    """Its job is queued again, as one of which a rank was killed."""

    def main():
        raise RuntimeError('DataLoader worker (pid 5) is killed by signal: Killed. ')

    monkeypatch.delenv('WORLD_SIZE', raising=False)
    with pytest.raises(SystemExit) as end:
        run_tool(main, 'go on')
    assert end.value.code == RANK_LOST and 'a lower num_workers or batch_size, and go on.' in capsys.readouterr().err
