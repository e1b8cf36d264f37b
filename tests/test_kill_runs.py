"""A few of the random kills of tests/kill_runs.py."""

import pytest

from kill_runs import MODES, MOMENTS, TARGETS, Result, Trial, draw_trials, run_suite, summarize


@pytest.mark.slow
@pytest.mark.process
def test_killed_runs_end_with_the_weights_of_an_undisturbed_one(tmp_path):
    trials = [Trial('restarts', 'rank', 'save', 5, 0.01, 1), Trial('torchrun', 'launcher', 'step', 9, 0.01, 0)]
    results = run_suite(trials, tmp_path, report=lambda line: None)
    assert [result.is_equal for result in results] == [True, True]
    assert [result.launches for result in results] == [1, 2]


def test_thirty_kills_cover_all_kinds():
    trials = list(draw_trials(30, 0))
    assert trials == list(draw_trials(30, 0)) != list(draw_trials(30, 1))
    kinds = {(trial.mode, trial.target, trial.moment) for trial in trials}
    assert len(kinds) == sum(len(TARGETS[mode]) for mode in MODES) * len(MOMENTS) == 21


def test_the_summary_counts_what_is_equal():
    trial = next(draw_trials(1, 0))._replace(mode='torchrun', target='rank')
    lines = list(summarize([Result(trial, True, 2, 3.0), Result(trial, False, 2, 1.0)]))
    assert lines[0].startswith('1 of 2 equal') and 'median 2.0, at most 3.0' in lines[1]
