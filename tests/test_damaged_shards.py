"""Shards and lists of shards that are damaged in ways that a reader may not survive."""

import json
import os
import tarfile

import pytest

from mae_toolkit.datasets import ShardDataset
from mae_toolkit.errors import UserError
from shard_sets import encode, make_tars, read_numbers


def test_an_lmdb_that_was_cut_is_refused_and_does_not_kill_the_process(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    path = tmp_path / 'a.lmdb'
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as writer:
        for number in range(40):
            writer.put(f'{number:02d}.png'.encode(), encode(number) + bytes(5000))
    file = path / 'data.mdb'
    size = file.stat().st_size
    os.truncate(file, size // 2)
    with pytest.raises(UserError, match=rf'a\.lmdb is truncated: it has {size // 2} bytes.* {size};'):
        ShardDataset(path)


def test_what_follows_a_member_of_a_negative_size_is_lost(tmp_path):
    (path,) = make_tars(tmp_path, (6,))
    with tarfile.open(path) as tar:
        place = tar.getmember('n00/img_0003.png').offset
    content = bytearray(path.read_bytes())
    content[place + 124 : place + 136] = b'\xff' * 12  # -1 in base 256
    content[place + 148 : place + 156] = b' ' * 8
    content[place + 148 : place + 156] = b'%06o\0 ' % sum(content[place : place + 512])
    path.write_bytes(content)
    assert read_numbers(ShardDataset(path)) == [0, 1, 2]


def test_lists_that_name_nothing_or_what_is_not_there_are_refused(tmp_path):
    make_tars(tmp_path, (3,))
    info = tmp_path / '_info.json'
    info.write_text(json.dumps({'splits': {}}))
    with pytest.raises(UserError, match=r'_info\.json names no shards'):
        ShardDataset(tmp_path)
    names = ['train-0000.tar', 'train-0001.tar']
    info.write_text(json.dumps({'splits': {'train': {'filenames': names, 'shard_lengths': [3, 3]}}}))
    with pytest.raises(UserError, match=r'no file of 1 shard of 2 \(.*train-0001\.tar\)'):
        ShardDataset(tmp_path)
    os.mkfifo(tmp_path / 'train-0001.tar')  # opening it would wait for ever
    with pytest.raises(UserError, match='no file of 1 shard of 2'):
        ShardDataset(tmp_path)
