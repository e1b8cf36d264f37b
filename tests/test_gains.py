"""The plot of what pretraining is worth, and the numbers that the README says of it."""

import re
from statistics import mean

import pytest
from PIL import Image

from mae_toolkit.errors import UserError
from mae_toolkit.transfer.gains import draw_gains, read_gains

ROWS = """encoder,task,labels,metric,mean,std,n,seeds
A,boxes,0.1,AP,1.5,0.5,3,3
A,boxes,0.1,AP50,9,1,3,3
"A, MAE",boxes,0.1,AP,4,,1,3
"A, MAE",boxes,0.1,AP50,20,1,3,3
"A, MAE",boxes,1,AP,5,1,3,3
"B, MAE",boxes,0.1,AP,6,1,3,3
"""


def test_an_encoder_is_paired_with_itself_pretrained(tmp_path):
    """By the first metric of a task; one that is not there from scratch is left out."""
    (tmp_path / 'table.csv').write_text(ROWS)
    assert read_gains(tmp_path / 'table.csv', 0.1) == {('boxes', 'AP'): [('A', (1.5, 0.5), (4.0, 0.0))]}
    draw_gains(read_gains(tmp_path / 'table.csv', 0.1), tmp_path / 'gains.png')
    assert Image.open(tmp_path / 'gains.png').size[0] > 300


def test_a_table_without_pairs_and_one_that_is_not_there_are_refused(tmp_path):
    (tmp_path / 'table.csv').write_text(ROWS)
    with pytest.raises(UserError, match=r'no encoder "NAME" beside "NAME, METHOD" with the fraction 1 of the labels'):
        read_gains(tmp_path / 'table.csv', 1.0)
    with pytest.raises(UserError, match=r'other.csv cannot be read \(No such file or directory\): name a folder'):
        read_gains(tmp_path / 'other.csv', 0.1)


def test_the_readme_says_what_the_table_says(root):
    said = re.findall(r'(\d+) → (\d+)', (root / 'README.md').read_text())
    found = read_gains(root / 'docs' / 'results' / 'small_sets' / 'table.csv', 0.1)
    means = [
        (mean(gain.scratch[0] for gain in gains), mean(gain.pretrained[0] for gain in gains))
        for gains in found.values()
    ]
    assert said == [(f'{before:.0f}', f'{after:.0f}') for before, after in means]
    assert all(gain.pretrained[0] > gain.scratch[0] for gains in found.values() for gain in gains)
