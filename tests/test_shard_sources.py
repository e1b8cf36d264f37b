"""Shards of other machines: failures that pass, failures that stay, and copies that processes share."""

import http.server
import os
import threading
import time
import traceback

import numpy as np
import pytest

from mae_toolkit.datasets import ShardDataset, ShardSampler
from mae_toolkit.datasets.checks.shards import check_dataset
from mae_toolkit.datasets.shards.cache import ShardCache, parse_size
from mae_toolkit.datasets.shards.prefetch import Prefetcher, list_first_uses
from mae_toolkit.datasets.shards.sources import Source, SourceError, SourceOptions
from mae_toolkit.errors import UserError
from shard_sets import make_tars, read_numbers
from test_shard_training import train

fsspec = pytest.importorskip('fsspec')
FAST = dict(timeout=0.5, retries=3, pause=0.01)


class Server:
    """A server of files on this machine whose answers are planted.

    Attributes:
        plans: By name of a file, what its next answers to GET do: ``500``, ``403``, ``'slow'`` or ``'truncated'``.
        asked: (method, name) of all requests.
    """

    def __init__(self, folder):
        self.folder, self.plans, self.asked = folder, {}, []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(False)

            def do_GET(self):
                self.answer(True)

            def answer(self, has_body):
                name = self.path.rpartition('/')[2]
                owner.asked.append((self.command, name))
                path = owner.folder / name
                plans = owner.plans.get(name, [])
                plan = plans.pop(0) if plans and has_body else plans[0] if plans and plans[0] == 403 else None
                if isinstance(plan, int) or not path.is_file():
                    self.send_error(plan or 404)
                    return
                content = path.read_bytes()
                self.send_response(200)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                if has_body and plan == 'slow':
                    owner.stopped.wait(1.5)
                if has_body:
                    self.wfile.write(content[: len(content) // 2] if plan == 'truncated' else content)

            def log_message(self, *args):
                pass

        self.stopped = threading.Event()
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f'http://127.0.0.1:{self.server.server_port}'

    def close(self):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def count(self, name):
        return self.asked.count(('GET', name))


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip('aiohttp')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    (tmp_path / 'served').mkdir()
    made = Server(tmp_path / 'served')
    yield made
    made.close()


@pytest.fixture
def cache(tmp_path):
    return dict(folder=str(tmp_path / 'cache'))


def load(server, cache, **kwargs):
    return ShardDataset(f'{server.url}/train-{{0000..0003}}.tar', cache=cache, source=FAST, **kwargs)


# --- the way


def test_lengths_come_from_info_and_shards_when_they_are_needed(server, cache):
    make_tars(server.folder, info=True)
    dataset = load(server, cache)
    assert len(dataset) == 18 and server.count('train-0001.tar') == 0
    assert dataset.name_image(6) == 'train-0001.tar/#1'  # not yet known
    assert read_numbers(dataset, [6, 5, 7]) == [6, 5, 7]
    assert server.count('train-0001.tar') == 1 and server.count('train-0002.tar') == 0
    assert dataset.name_image(6) == 'train-0001.tar/n00/img_0006.png'
    assert read_numbers(load(server, cache), range(18)) == list(range(18))
    assert server.count('train-0001.tar') == 1  # of the copy


def test_without_info_shards_are_copied_before_the_start(server, cache):
    make_tars(server.folder)
    dataset = load(server, cache, hold_out=-6, labels=True)
    assert len(dataset) == 3 and server.count('train-0003.tar') == 2  # the first was the check of permission
    assert read_numbers(dataset) == [0, 6, 12] and dataset[1]['label'] == 0
    assert server.count('train-0003.tar') == 2


def test_a_folder_of_another_machine(server, cache):
    make_tars(server.folder, info=True)
    dataset = ShardDataset(server.url, cache=cache, source=FAST)
    assert [shard.name for shard in dataset.shards] == [f'train-{i:04d}.tar' for i in range(4)]
    (server.folder / '_info.json').unlink()
    with pytest.raises(UserError, match=r'no http://.*/_info\.json'):
        ShardDataset(server.url, cache=cache, source=FAST)


def test_any_file_system_of_fsspec(tmp_path, cache):
    make_tars(tmp_path / 'set', info=True)
    memory = fsspec.filesystem('memory')
    memory.put(f'{tmp_path}/set/', '/sets/', recursive=True)
    dataset = ShardDataset('memory://sets/train-{0000..0003}.tar', cache=cache)
    assert len(dataset) == 18 and read_numbers(dataset, [17, 0]) == [17, 0]
    with pytest.raises(UserError, match=r'no memory://sets/train-0009\.tar'):
        ShardDataset('memory://sets/train-0009.tar', cache=cache)


def test_protocols_that_are_not_here(cache, monkeypatch):
    with pytest.raises(UserError, match=r'nowhere://set/_info\.json cannot be read'):
        ShardDataset('nowhere://set/a.tar', cache=cache)
    with pytest.raises(UserError, match='s3fs|storage_options'):  # s3fs may be here, and has then no credentials
        ShardDataset('s3://bucket/a.tar', cache=cache, source=dict(FAST, retries=0))
    hub = pytest.importorskip('huggingface_hub')

    def ask(self, path, *args, **kwargs):
        raise hub.errors.OfflineModeIsEnabled(f'offline: {path}')

    monkeypatch.setattr(hub.HfFileSystem, 'open', ask)
    with pytest.raises(
        SourceError, match=r'hf://datasets/timm/x/_info.json .* 1 attempt .*: offline: datasets/timm/x/_'
    ):
        ShardDataset('hf://datasets/timm/x/a.tar', cache=cache, source=dict(retries=0))


def test_tars_here_and_elsewhere_together(server, cache, tmp_path):
    make_tars(server.folder, info=True)
    here = make_tars(tmp_path / 'here', (3,))[0]
    dataset = ShardDataset([here, f'{server.url}/train-0001.tar'], cache=cache, source=FAST)
    assert read_numbers(dataset) == [0, 1, 2, 5, 6, 7]
    dataset.prefetch(0)
    assert not [path for path in os.listdir(cache['folder']) if path.endswith('train-0000.tar')]
    with pytest.raises(UserError, match='only be read on this machine'):
        ShardDataset(f'{server.url}/a.lmdb', cache=cache, source=FAST)


# --- failures


def test_failures_that_pass_are_repeated_and_named(server, cache):
    make_tars(server.folder, info=True)
    dataset = load(server, cache)
    server.plans = {'train-0001.tar': [500, 500], 'train-0002.tar': ['truncated'], 'train-0003.tar': ['slow']}
    item = dataset[0, 5]
    assert (item['img'] == 5).all() and server.count('train-0001.tar') == 3
    (note,) = item['notes']
    assert f'{server.url}/train-0001.tar' in note and '2 failed attempts' in note and '500' in note and ' s (' in note
    assert '1 failed attempt' in dataset[0, 8]['notes'][0] and '1 failed attempt' in dataset[0, 12]['notes'][0]
    assert server.count('train-0003.tar') == 3  # the first was the check of permission
    assert 'notes' not in dataset[0, 6]
    assert not [path for path in os.listdir(cache['folder']) if path.endswith('.partial')]


def test_a_download_that_ends_early_without_an_error_is_repeated(tmp_path, cache, monkeypatch):
    """Not every file system of fsspec compares what came with what was announced."""
    (path,) = make_tars(tmp_path / 'set', (4,))
    fsspec.filesystem('memory').put(str(path), '/early/a.tar')
    source, whole, calls = Source('memory://early/a.tar', SourceOptions(**FAST)), Source._read_chunks, []

    def end_early(self, size):
        calls.append(size)
        for chunk in whole(self, size):
            yield chunk if len(calls) > 1 else chunk[:100]

    monkeypatch.setattr(Source, '_read_chunks', end_early)
    fetched = ShardCache(**cache).fetch(source)
    assert fetched.path.read_bytes() == path.read_bytes()
    assert f'100 of {path.stat().st_size:,} bytes came' in fetched.download.failures[0]


def test_failures_that_stay_end_with_the_name_of_the_source(server, cache):
    make_tars(server.folder, info=True)
    dataset = load(server, cache)
    server.plans = {'train-0001.tar': ['truncated'] * 9, 'train-0002.tar': [500] * 9}
    for key, name in ((5, 'train-0001.tar'), (8, 'train-0002.tar')):
        with pytest.raises(SourceError, match=f'{server.url}/{name} could not be read in 4 attempts within') as caught:
            dataset[key]
        assert os.uname().nodename in str(caught.value)
    assert read_numbers(dataset, [0]) == [0]


def test_what_waiting_does_not_change_is_refused_before_anything_starts(server, cache):
    make_tars(server.folder, info=True)
    server.plans = {'train-0003.tar': [403] * 20}
    with pytest.raises(UserError, match=rf'no permission to read {server.url}/train-0003\.tar \(status 403\)'):
        load(server, cache)
    server.plans = {}
    (server.folder / 'train-0003.tar').unlink()
    with pytest.raises(UserError, match=rf'no {server.url}/train-0003\.tar'):
        load(server, cache)


def test_a_shard_that_is_shorter_than_promised_is_named_and_its_images_are_replaced(server, cache):
    paths = make_tars(server.folder, info=True)
    dataset = load(server, cache)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) * 2 // 5])  # one of three pictures is left, or two
    item = dataset[0, 7]
    assert (item['img'] == 8).all()  # the first of the next shard
    ((name, reason),) = item['broken']
    assert name.startswith('train-0001.tar/') and 'and 3 are promised' in reason
    said = ' '.join(item['notes'])
    assert 'what followed is lost' in said or 'was cut' in said
    assert '_info.json promises 3' in said


@pytest.mark.parametrize('wrong', [dict(timeout=0), dict(retries=-1), dict(pause='a'), dict(timeout=float('inf'))])
def test_options_are_checked(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SourceOptions(**wrong)


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (dict(source=dict(retrys=3)), "no argument 'retrys'; did you mean retries"),
        (dict(cache=dict(size='1GB')), "no argument 'size'; known are folder, limit"),
        (dict(cache='/scratch'), "cache='/scratch' of a ShardDataset must be a dict: write cache=dict"),
    ],
)
def test_settings_that_do_not_exist_are_refused_with_those_that_do(tmp_path, wrong, words):
    urls = [str(path) for path in make_tars(tmp_path)]
    with pytest.raises(UserError, match=words):
        ShardDataset(urls, **wrong)
    report = check_dataset(dict(urls=urls, **wrong), 'train', {})
    assert words.split(';')[0] in report.to_dict()['findings'][0]['reason']


@pytest.mark.process
def test_the_log_of_a_training_names_sources_that_fail(server, cache, tmp_path):
    make_tars(server.folder, info=True)
    server.plans = {'train-0001.tar': [500, 500]}
    options = dict(cache=cache, source=FAST)
    seen = train(f'{server.url}/train-{{0000..0003}}.tar', tmp_path / 'run', 4, workers=1, dataset=options)
    assert len({name for step in range(5) for name in seen[step]}) == 18
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert log.count(f'A source fails at times: {server.url}/train-0001.tar') == 1 and '2 failed attempts' in log


# --- the cache


def test_sizes():
    assert (
        parse_size('512MB') == 512_000_000 and parse_size('1.5 gb') == 1_500_000_000 and parse_size('2GiB') == 2 << 30
    )
    assert parse_size(7) == 7
    for wrong in ('', '5 apples', 0, True, '-1GB', None):
        with pytest.raises(UserError, match='no size'):
            parse_size(wrong)


def test_the_copies_that_were_used_least_lately_make_room(server, tmp_path):
    paths = make_tars(server.folder, (2, 2, 2, 2), info=True)
    size = paths[0].stat().st_size
    cache = dict(folder=str(tmp_path / 'cache'), limit=int(2.5 * size))
    dataset = load(server, cache)
    assert read_numbers(dataset, [0, 2]) == [0, 2]
    first, second, third = (dataset._collection._source(shard) for shard in dataset.shards[:3])
    copies = ShardCache(**cache)
    os.utime(copies._about(copies.locate(second)), (1, 1))
    assert read_numbers(dataset, [4]) == [4]
    assert copies.find(first) and copies.find(third) and not copies.find(second)
    assert read_numbers(dataset, [2, 3]) == [2, 3]  # who has opened it goes on
    assert read_numbers(load(server, cache), [2]) == [2]
    assert server.count('train-0001.tar') == 2
    with pytest.raises(UserError, match='a limit of'):
        load(server, dict(cache, limit=100))[6]


@pytest.mark.process
def test_processes_share_one_download(server, cache):
    make_tars(server.folder, (8,), info=True)
    server.plans = {'train-0000.tar': [None, 'slow']}  # so that the others come meanwhile
    url = f'{server.url}/train-0000.tar'
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            is_right = False
            try:
                dataset = ShardDataset(url, cache=cache, source=dict(FAST, timeout=30))
                is_right = read_numbers(dataset, [number]) == [number]
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0 if is_right else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert server.count('train-0000.tar') <= 4  # at most three checks of permission, and one download


def test_a_source_that_has_changed_is_copied_again(server, cache):
    (path,) = make_tars(server.folder, (2,))
    source, copies = Source(f'{server.url}/{path.name}', SourceOptions(**FAST)), ShardCache(**cache)
    first = copies.fetch(source)
    assert first.download is not None and copies.fetch(source, check=True).download is None
    path.write_bytes(path.read_bytes() + bytes(512))
    assert copies.fetch(source).download is None
    again = copies.fetch(source, check=True)
    assert again.download is not None and again.path.read_bytes() == path.read_bytes()
    server.close()
    assert copies.fetch(source, check=True).path == again.path  # nobody answers: the copy is used


def test_a_folder_that_cannot_be_written_is_refused(server, tmp_path):
    make_tars(server.folder, info=True)
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(UserError, match='cannot be kept in .*cache=dict'):
        load(server, dict(folder=str(tmp_path / 'file' / 'cache')))[0]


# --- ahead of need


def test_shards_are_downloaded_before_they_are_needed(server, cache):
    make_tars(server.folder, info=True)
    dataset = load(server, cache)
    sampler = ShardSampler(dataset, streams=1, window=1, ahead=1, shuffle=False)
    keys = iter(sampler)
    assert next(keys) == (0, 0)
    deadline = time.monotonic() + 60
    while server.count('train-0000.tar') < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.count('train-0000.tar') == 1 and server.count('train-0002.tar') == 0
    assert [index for _, index in keys] == list(range(1, 18))
    assert list_first_uses(dataset, np.array([17, 5, 6, 0])) == [(0, 3), (1, 1), (3, 0)]


def test_the_thread_keeps_its_distance_and_ends():
    fetched = []
    dataset = type('Fake', (), {'prefetch': lambda self, shard: fetched.append(shard)})()
    prefetcher = Prefetcher(dataset, [(0, 7), (10, 8), (20, 9), (30, 6)], ahead=2)
    deadline = time.monotonic() + 60
    while len(fetched) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert fetched == [7, 8, 9]  # that in use, and two
    prefetcher.place = 10
    while len(fetched) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fetched == [7, 8, 9, 6]
    prefetcher.stop()


def test_what_fails_ahead_is_a_note(server, cache):
    make_tars(server.folder, info=True)
    dataset = load(server, cache)
    server.plans = {'train-0002.tar': [500] * 9}
    dataset.prefetch(2)
    assert 'train-0002.tar could not be read in 4 attempts' in dataset.take_notes()[0] and not dataset.take_notes()


def test_a_cache_that_cannot_hold_what_is_in_use_is_refused(server, tmp_path):
    paths = make_tars(server.folder, (2,) * 4, info=True)
    size = paths[0].stat().st_size
    dataset = load(server, dict(folder=str(tmp_path / 'cache'), limit=2 * size))
    sampler = ShardSampler(dataset, streams=1, window=2, ahead=1)
    with pytest.raises(UserError, match=r'4 shards as large as train-0000\.tar .*raise cache=dict\(limit'):
        next(iter(sampler))
    assert next(iter(ShardSampler(dataset, streams=1, window=1, ahead=0)))[0] == 0
