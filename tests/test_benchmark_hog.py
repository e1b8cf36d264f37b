"""The benchmark of HOG runs, compares the same numbers and reports; how fast it is depends on the machine."""

import json

import pytest
import torch

from mae_toolkit.benchmarks.hog import benchmark_hog, report
from tiny import refuse, run_here


def test_the_same_histograms_are_timed():
    torch.set_num_threads(2)
    result = benchmark_hog(images=2, size=32, runs=2)
    assert torch.get_num_threads() == 2
    assert list(result['cases']) == [
        'one channel',
        'three channels, histograms of each',
        'three channels, the strongest',
        "three channels, MaskFeat's target",
    ]
    *compared, alone = result['cases'].values()
    assert alone['ours'] > 0 and 'skimage' not in alone
    for case in compared:
        assert case['ratio'] == pytest.approx(case['skimage'] / case['ours'])
        assert case['difference'] < 1e-5
        assert f'{case["ratio"]:8.1f}' in report(result)


def test_the_tool_writes_what_it_says(tmp_path):
    out = tmp_path / 'hog.json'
    text = run_here('benchmark', 'hog', '--images', 1, '--size', 16, '--runs', 1, '--json', out, plain=True)
    (result,) = json.loads(out.read_text())
    assert f'{result["cases"]["one channel"]["ours"]:.2f}' in text and '1 images of 16 x 16' in text


def test_sizes_without_whole_patches():
    assert '24 x 24 pixels is not divisible' in refuse('benchmark', 'hog', '--size', 24, plain=True)
