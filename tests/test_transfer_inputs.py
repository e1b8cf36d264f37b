"""What a YAML and the files of a table may hold that is no mistake of spelling: bombs, damage, HTML, formulas."""

import csv
import io
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from mae_toolkit.errors import UserError
from mae_toolkit.transfer import compare as compare_module
from mae_toolkit.transfer.compare import Comparison, compare, write_comparison
from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.job import read_job, read_result
from mae_toolkit.transfer.markdown import escape_formula, escape_markdown, to_code
from mae_toolkit.transfer.records import Record, parse, renamed_field
from mae_toolkit.transfer.report import write_markdown, write_runs_csv, write_table_csv
from mae_toolkit.transfer.run_records import Failure, PretrainingResult, SlurmJob, Weights
from mae_toolkit.transfer.summary import make_cells
from mae_toolkit.transfer.tables import write_again
from mae_toolkit.transfer.yaml_file import read_yaml
from test_transfer_parts import YAML, result

NINE = ', '.join(['*a{0}'] * 9)
BOMB = 'a0: &a0 [x, x]\n' + ''.join(f'a{i + 1}: &a{i + 1} [{NINE.format(i)}]\n' for i in range(9))
MERGES = 'a0: &a0 {k: v}\n' + ''.join(f'a{i + 1}: &a{i + 1} {{<<: [{NINE.format(i)}]}}\n' for i in range(9))


def write_yaml(folder, text):
    path = folder / 'table.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        (BOMB, 'values or more with its aliases'),
        (MERGES, 'values or more with its aliases'),
        ('a0: &a0 [x]\n' + ''.join(f'a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n' for i in range(300)), 'values or more'),
        ('a: &a [*a]', 'stands for what holds it'),
        ('a: &a {b: [1, *a]}', 'stands for what holds it'),
        ('a: ' + '[' * 5000 + ']' * 5000, 'nested too deeply'),
        ('a: ' + 'x' * 100_001, '100,004 bytes'),
        ('a: !!python/object/apply:os.system [touch marker]', 'could not determine a constructor'),
        ('a: !own {b: 1}', 'could not determine a constructor'),
        ('seed: 2026-13-45', 'month must be in 1..12'),
        ('a: !!bool x', 'is no YAML'),
        ('a: !!int ""', 'is no YAML'),
        ('a: !!timestamp x', 'is no YAML'),
        ('a: !tuple {b: 1}', 'is no tuple'),
        ('a: (' + '(' * 3000 + ',)', 'is no tuple'),
        ('? [1]\n: 2', 'unhashable'),
        (b'\xff\xfea\x00', 'is no YAML'),
        (b'a: \x00', 'is no YAML'),
        ('a: 1\n---\nb: 2', 'expected a single document'),
    ],
    ids=lambda value: None if len(value) > 30 else str(value),
)
def test_a_yaml_that_is_none_of_a_table_is_refused_at_once(tmp_path, monkeypatch, text, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence) as told:
        read_yaml(write_yaml(tmp_path, text))
    assert len(str(told.value)) < 400 and str(tmp_path) in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ['table.yaml']


def test_ordinary_aliases_merges_and_a_mark_of_utf8_are_read(tmp_path):
    text = '\ufeffa: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n'
    assert read_yaml(write_yaml(tmp_path, text)) == {'a': {'x': 1}, 'b': {'x': 1, 'y': 2}, 'c': [{'x': 1}, {'x': 1}]}
    assert read_yaml(write_yaml(tmp_path, '# nothing\n')) is None


@pytest.mark.parametrize(
    ('old', 'new', 'sentence'),
    [
        ('B, scratch:', r'"B\n\n# scratch":', 'holds a line break'),
        ('B, scratch:', r'"B\u202Escratch":', 'cannot be shown'),
        ('{AP:', r'{"A\x1bP":', 'cannot be shown'),
        ('seeds: [0, 1]', f'seeds: [0, {2**32}]', r'from 0 to 2\*\*32 - 1'),
    ],
)
def test_names_and_seeds_that_would_break_a_table_or_a_run_are_refused(tmp_path, old, new, sentence):
    with pytest.raises(UserError, match=sentence):
        read_experiment(write_yaml(tmp_path, YAML.replace(old, new)))


WHOLE = result('A, MAE', 'cells', 0.1, 0, 0.5)
RUN_ONLY = (
    'task',
    'label_fraction',
    'seed',
    'metrics',
    'family',
    'pretrained',
    'pretraining',
    'metrics_needed',
    'kind',
    'frozen',
    'chosen',
)
PRETRAINED = PretrainingResult(
    **{key: value for key, value in vars(WHOLE).items() if key not in RUN_ONLY} | {'weights': Weights('a.pth', 'a')}
)
OTHER = {str: 5, int: 'x', float: [], dict: [], list: {}, bool: 'yes', type(None): 5}
OPTIONAL = ('kind', 'asked', 'frozen', 'chosen')  # files of earlier versions lack them


@pytest.mark.parametrize('whole', [WHOLE, PRETRAINED], ids=['run', 'pretraining'])
def test_a_result_without_any_of_its_keys_or_with_another_type_is_damaged(tmp_path, whole):
    path = tmp_path / 'result.json'
    whole.write(path)
    assert read_result(tmp_path) == whole
    plain = whole.to_dict()
    assert json.loads(path.read_text()) == plain and plain.keys() >= set(OPTIONAL[:1])
    refused = 0
    for key, value in plain.items():
        lacking = {name: item for name, item in plain.items() if name != key}
        other = plain | {key: OTHER[type(value)]}
        for damaged in [other] if key in OPTIONAL else [lacking, other]:
            path.write_text(json.dumps(damaged))
            with pytest.raises(UserError, match=rf'result.json is damaged \(.*\b{key}\b.*\): delete it'):
                read_result(tmp_path)
            refused += 1
    assert refused == 2 * len(plain) - len(plain.keys() & set(OPTIONAL))


def test_a_result_of_an_earlier_version_is_read(tmp_path):
    earlier = {key: value for key, value in WHOLE.to_dict().items() if key not in OPTIONAL} | {'status': 'done'}
    (tmp_path / 'result.json').write_text(json.dumps(earlier))
    assert read_result(tmp_path) == WHOLE


@pytest.mark.parametrize(
    'text',
    ['{}', 'null ', '[]', '5', '"x"', '', '{', '[' * 100_000, '{"metrics": {"a": "x"}}', '\ufeff{}'],
    ids=lambda text: text[:8] or 'empty',
)
def test_no_result_at_all_is_damaged_or_missing(tmp_path, text):
    (tmp_path / 'result.json').write_text(text)
    if text.strip() == 'null':
        assert read_result(tmp_path) is None
        return
    with pytest.raises(UserError, match='result.json is damaged .*delete it'):
        read_result(tmp_path)


@pytest.mark.parametrize(
    ('name', 'read'),
    [
        ('job.json', lambda path: read_job(path.parent)),
        ('slurm.json', SlurmJob.read),
        ('failure.json', Failure.read),
        ('beginning.json', Weights.read),
    ],
    ids=['job', 'slurm', 'failure', 'beginning'],
)
def test_the_other_files_of_a_run_are_read_with_the_same_care(tmp_path, name, read):
    (tmp_path / name).write_text('{}')
    with pytest.raises(UserError, match=f'{name} is damaged .it lacks'):
        read(tmp_path / name)


def test_a_number_is_no_bool_and_nested_places_are_named():
    @dataclass(frozen=True)
    class Inner(Record):
        a: int

    @dataclass(frozen=True)
    class Outer(Record):
        numbers: tuple[float, ...]
        by_name: dict[str, Inner | None]
        fraction: float = renamed_field('share', default=1)
        anything: Any = None

    whole = {'numbers': [1, 2.5], 'by_name': {'x': {'a': 1}, 'y': None}, 'share': 0.5, 'anything': [1]}
    read = Outer.from_dict(whole | {'later': 5})
    assert read == Outer((1, 2.5), {'x': Inner(1), 'y': None}, 0.5, [1]) and read.to_dict() == whole

    def damage(content, kind):
        with pytest.raises(ValueError, match=' ') as raised:
            parse(content, kind)
        return str(raised.value)

    assert damage({'a': True}, Inner) == 'a is True'
    assert damage({'a': None}, dict[str, str]) == 'a is None'
    assert damage([1, 2], tuple[int, int, int]) == 'it is [1, 2]'
    assert damage([1, 'x'], list[int]) == damage([1, 'x'], tuple[int, int]) == "it[1] is 'x'"
    assert parse(None, Inner | None) is None
    assert damage({}, Inner | None) == "it lacks 'a'" and damage('b', Literal['a']) == "it is 'b'"
    assert damage(whole | {'by_name': {'x': {'a': 'n'}}}, Outer) == "a is 'n'"


@pytest.mark.parametrize(
    ('name', 'text'),
    [('results.jsonl', '{}\n'), ('results.jsonl', '[' * 100_000), ('notes.json', '[5]'), ('notes.json', '{}')],
    ids=['result', 'nested', 'note', 'notes'],
)
def test_a_damaged_folder_of_results_is_named(tmp_path, name, text):
    files = {'experiment.yaml': YAML, 'results.jsonl': json.dumps(WHOLE.to_dict()) + '\n', 'notes.json': '[]'} | {
        name: text
    }
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=f'{name} is damaged[: ]'):
        write_again(tmp_path, tmp_path)


NASTY = '<img src=x onerror=alert(1)>|`a`[b](javascript:c)*d*\\'


def cells_of(line):
    """Cells of a row of a table in Markdown."""
    return re.split(r'(?<!\\)\|', line)[1:-1]


def test_names_stay_texts_in_markdown_and_are_no_formulas_in_csv(tmp_path):
    formula = "=cmd|'/C calc'!A0"
    text = YAML.replace('A, scratch', json.dumps(NASTY)).replace('B, scratch', json.dumps(formula))
    experiment = read_experiment(write_yaml(tmp_path, text))
    results = [result(NASTY, 'cells', 0.1, 0, 0.5, config=NASTY, device=NASTY, options={NASTY: NASTY}), WHOLE]
    results += [result(formula, 'digits', 1.0, 0, -5.0)]
    page = write_markdown(experiment, make_cells(experiment, results), results, [f'made by {NASTY}'])
    assert '<img' not in page and '\njavascript' not in page
    blocks = [block.splitlines() for block in page.split('\n\n') if block.startswith('|')]
    assert len(blocks) == 4
    for head, *rows in blocks:
        assert {len(cells_of(row)) for row in rows} == {len(cells_of(head))}, rows
    for made in (write_table_csv(experiment, make_cells(experiment, results)), write_runs_csv(experiment, results)):
        rows = list(csv.reader(io.StringIO(made)))
        assert {row[0] for row in rows[1:]} == {NASTY, "'" + formula, *({'A, MAE'} & {row[0] for row in rows})}
    assert any(
        '-5' in row for row in csv.reader(io.StringIO(write_runs_csv(experiment, results)))
    )  # a number stays one


def test_escapes():
    assert escape_markdown('a|b\n<i>') == 'a&#124;b &lt;i&gt;'
    assert escape_markdown('ViT-T/2, MAE (10%)') == 'ViT-T/2, MAE (10%)'
    assert to_code('a=(1, 2)') == '`a=(1, 2)`' and to_code('a|b') == '<code>a&#124;b</code>'
    assert [escape_formula(x) for x in ('=1+1', '@x', '-5.5', '+1e3', -5, ' =x')] == [
        "'=1+1", "'@x", '-5.5', '+1e3', -5, "' =x",
    ]  # fmt: skip


def test_names_with_formulas_of_mathematics_are_drawn(tmp_path):
    files = {'experiment.yaml': YAML.replace('A, MAE', r'"_$\\frac$"'), 'notes.json': '[]'}
    files['results.jsonl'] = json.dumps(result(r'_$\frac$', 'cells', 0.1, 0, 0.5).to_dict()) + '\n'
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    write_again(tmp_path, tmp_path)
    assert (tmp_path / 'table.png').stat().st_size > 1000


@pytest.mark.parametrize('minutes', [0.0, -1.0, float('inf'), float('-inf'), float('nan'), 1e308])
def test_minutes_that_are_no_time_are_refused_before_anything_is_made(tmp_path, minutes):
    with pytest.raises(UserError, match=re.escape(f'--minutes {minutes} is no time to train')):
        compare({'a': None}, tmp_path / 'out', minutes, tmp_path)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('text', ['{}', '[]', '{"loss": [1]}', '{"epochs": 2'])
def test_a_damaged_result_of_a_comparison_is_named(tmp_path, monkeypatch, text):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/result.json').write_text(text)
    with pytest.raises(UserError, match='result.json is damaged .*delete it'):
        compare({'a': None}, tmp_path, 1.0, tmp_path)
    (tmp_path / 'a/result.json').unlink()
    done = Comparison('a', (1.0, 0.5), (0.1, 0.2), images_per_s=9.0, epochs=2, minutes=1.0, parameters=10)
    monkeypatch.setattr(compare_module, '_pretrain', lambda *_: done)
    (row,) = compare({'a': None}, tmp_path, 1.0, tmp_path)
    assert row == compare({'a': None}, tmp_path, 1.0, tmp_path)[0] == done
    assert '| &lt;i&gt;&#124; |' in write_comparison([replace(row, name='<i>|')])
