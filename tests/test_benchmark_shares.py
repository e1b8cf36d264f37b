"""Steps by the visible share: what is measured is what was asked for, and ratios are those of the times."""

import json
import re
import runpy

import pytest
import torch
from PIL import Image

from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.model_parts import BenchmarkedModel
from mae_toolkit.benchmarks.shares import DENSE, MASK_TOKENS, MASKED_CONVOLUTIONS, benchmark_shares, list_turns
from mae_toolkit.errors import UserError
from mae_toolkit.flops import count_flops
from parts import ENCODERS
from tiny import QUICKSTART


def with_encoder(name):
    cfg = load_config(QUICKSTART)
    cfg.model.encoder = ENCODERS[name] | {'out_indices': (1,)}
    return cfg


def test_fractions_are_those_of_the_times_in_json_and_a_picture(tmp_path, monkeypatch, root, capsys):
    """The tool itself, with two configs; a share of 0.4 is 9 of 4 x 6 cells."""
    names = {'swin': 'Swin', 'convnext': 'ConvNeXt V2'}
    for name, encoder in names.items():
        with_encoder(encoder).dump(tmp_path / f'encoder_{name}.py')
    configs = [str(tmp_path / f'encoder_{name}.py') for name in names]
    out, plot = tmp_path / 'shares.json', tmp_path / 'shares.png'
    command = ['benchmark.py', 'shares', *configs, '--batch', '2', '--size', '32', '48', '--runs', '1']
    command += ['--shares', '1', '0.4', '--device', 'cpu', '--json', str(out), '--plot', str(plot)]
    monkeypatch.setattr('sys.argv', command)
    main = runpy.run_path(str(root / 'tools/benchmark.py'))['main']
    main()
    swin, convnext = json.loads(out.read_text())
    for result in (swin, convnext):
        assert [step['share'] for step in result['steps']] == [1, 9 / 24]
        assert result['size'] == [32, 48] and result['batch'] == 2 and result['runs'] == 1
        for row in (*result['steps'], *result['references']):
            assert row['ms'] > 0 and row['fraction'] == pytest.approx(row['ms'] / result['dense_ms'])
    assert [result['name'] for result in (swin, convnext)] == ['swin', 'convnext']
    assert [row['name'] for row in swin['references']] == [MASK_TOKENS]
    assert [row['name'] for row in convnext['references']] == [MASKED_CONVOLUTIONS]
    assert [row['source'] for row in swin['published']] == ['arXiv:2205.13515'] and not convnext['published']
    assert Image.open(plot).width > 500
    assert '| swin |' in capsys.readouterr().out
    out.unlink()
    with pytest.raises(UserError, match='shares.png is there already'):
        main()
    monkeypatch.setattr('sys.argv', [*command, '--plot', str(tmp_path / 'shares.jpg')])
    with pytest.raises(UserError, match='ending in .png'):
        main()


@pytest.mark.parametrize(('name', 'reference'), [('Swin', MASK_TOKENS), ('ConvNeXt V2', MASKED_CONVOLUTIONS)])
def test_an_encoder_computes_what_is_visible_and_the_others_everything(name, reference):
    """Counted, not timed: half of the cells save a good part of the operations, the other ways none."""
    cfg = with_encoder(name)
    model = BenchmarkedModel(cfg, 2, (64, 96), torch.device('cpu'), ('encoder', 'dense'))
    turns = {(turn.name, turn.share): turn for turn in list_turns(cfg, model, (1.0, 0.5))}
    assert list(turns) == [(DENSE, 1.0), (None, 1.0), (None, 0.5), (reference, model.visible)]
    flops = {key: count_flops(turn.run) for key, turn in turns.items()}
    dense = flops[DENSE, 1.0]
    assert flops[None, 1.0] == pytest.approx(dense, rel=0.05)
    assert 0.4 * dense < flops[None, 0.5] < 0.75 * dense
    assert flops[reference, model.visible] == pytest.approx(dense, rel=0.05)


def test_a_share_that_cannot_be_measured_is_refused_before_anything_runs():
    with pytest.raises(UserError, match='share 0: the visible fraction'):
        benchmark_shares([with_encoder('Swin')], (0.5, 0.0), 2, (32, 48))
    with pytest.raises(UserError, match='hides 24 of 24 cells'):
        benchmark_shares([with_encoder('Swin')], (0.01,), 2, (32, 48))
    cfg = with_encoder('Swin')
    cfg.model.encoder.out_indices = (-1, 1)
    with pytest.raises(UserError, match='has no dense network'):
        benchmark_shares([cfg], (0.5,), 2, (32, 48))


def test_the_page_has_the_settings_and_the_readme_the_numbers_of_the_table(root):
    section = (root / 'docs' / 'encoders.md').read_text().partition('## By the visible share')[2].partition('\n## ')[0]
    command = section.partition('```bash')[2].partition('```')[0]
    asked = re.findall(r'OMP_NUM_THREADS=(\d+)|--batch (\d+)|--runs (\d+)', command)
    threads, batch, runs = (max(found) for found in asked)
    assert f'for a batch of {batch} on {threads} threads, medians of {runs} steps' in section
    quarter = {
        name: float(share) for name, share in re.findall(r'^\| ([\w-]+).*? (\d\.\d+) \(0\.2[45]\)', section, re.M)
    }
    assert len(quarter) == 6
    readme = ' '.join((root / 'README.md').read_text().split())
    lowest, highest = min(quarter, key=quarter.get), max(quarter, key=quarter.get)
    said = f"{quarter[lowest]:.2f} of the dense network's ({lowest}) to {quarter[highest]:.2f} ({highest})"
    assert said in readme
