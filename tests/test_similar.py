"""mae-toolkit similar, duplicates and cluster: on images whose answer is known."""

import csv
import json
import os
import shutil
from functools import cache as cache_calls

import numpy as np
import pytest
from PIL import Image

from mae_toolkit import commands, load_encoder
from mae_toolkit.apis import cluster_images, embed, embedding, find_duplicates, find_similar
from mae_toolkit.errors import UserError
from test_export_folder import ENCODERS
from test_load_encoder import write_run
from tiny import ROOT

TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
BLOOD = sorted((TINY / 'bccd' / 'images').glob('*.jpg'))
SHARED = ('BloodImage_00204.jpg', 'BloodImage_00276.jpg')
NUCLEI = sorted((TINY / 'dsb2018' / 'images').glob('*.jpg'))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A run of random weights, and a function that loads a run once."""
    folder = tmp_path_factory.mktemp('weights') / 'run'
    write_run(folder, ENCODERS['ConvNeXt'])
    return folder, cache_calls(load_encoder)


@pytest.fixture
def run(weights, monkeypatch):
    monkeypatch.setattr(embedding, 'load_encoder', weights[1])
    return weights[0]


def copy_images(paths, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    return copy_images([*BLOOD[:6], *NUCLEI[:6]], tmp_path / 'photos')


def test_the_copy_comes_first_and_the_image_itself_is_left_out(run, photos, tmp_path):
    picture = Image.open(BLOOD[2])
    picture.save(photos / 'copy.png')
    found = find_similar(run, photos, photos / BLOOD[2].name, tmp_path / 'sheet.png')
    assert found[0].name == 'copy.png' and found[0].cosine > 0.999 and len(found) == 8
    assert BLOOD[2].name not in {match.name for match in found}
    assert [match.cosine for match in found] == sorted((match.cosine for match in found), reverse=True)
    assert found[0].regions.shape == found[0].query_regions.shape == (2, 2)  # 64 x 48 pixels at stride 32
    assert found[0].regions.min() > 0.999 and found[0].regions.mean() > found[-1].regions.mean()
    record = json.loads((tmp_path / 'sheet.json').read_text())
    assert [match['image'] for match in record['matches']] == [match.name for match in found]
    assert record['vectors'] == 'level4.mean' and record['images'] == 13
    np.testing.assert_allclose(record['matches'][1]['regions'], found[1].regions, atol=1e-4)
    assert Image.open(tmp_path / 'sheet.png').width > 4 * 224
    find_similar(run, photos, BLOOD[20], tmp_path / 'sheet.png', count=2)  # replaces its own


def test_the_region_of_a_match_is_where_it_was_put(run, tmp_path):
    """A piece of one image in another place of the other: its patches are there, and so are those of the first."""
    rng = np.random.default_rng(0)
    piece = np.kron(rng.integers(0, 256, (10, 10, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    image = rng.integers(0, 256, (213, 213, 3)).astype(np.uint8)  # of which the middle 128 are seen, from 42
    other = np.full_like(image, 110)
    image[58:98, 58:98] = piece
    other[114:154, 98:138] = piece
    (tmp_path / 'photos').mkdir()
    Image.fromarray(other).save(tmp_path / 'photos' / 'other.png')
    Image.fromarray(image).save(tmp_path / 'image.png')
    (match,) = find_similar(run, tmp_path / 'photos', tmp_path / 'image.png', size=128, vectors='level1.mean')
    assert match.regions.shape == match.query_regions.shape == (32, 32)  # stride 4
    same = match.regions[21:25, 17:21], match.query_regions[7:11, 7:11]  # away from its edges
    assert min(part.min() for part in same) > 0.9999
    assert (match.query_regions > 0.9999).sum() < 100 and match.query_regions.argmax() // 32 in range(4, 14)


def test_vectors_of_a_file_give_the_same_without_encoding(run, photos, tmp_path, monkeypatch):
    embed(run, photos, tmp_path / 'features.npz', levels=[1, 4], poolings=['max', 'mean'])
    expected = find_similar(run, photos, BLOOD[20])
    found = find_similar(None, photos, BLOOD[20], features=tmp_path / 'features.npz')
    assert [match.name for match in found] == [match.name for match in expected]
    np.testing.assert_allclose([m.cosine for m in found], [m.cosine for m in expected], atol=1e-5)
    other = find_similar(None, photos, BLOOD[20], features=tmp_path / 'features.npz', vectors='level1.max')
    assert other[0].regions.shape == (16, 12) and len(other) == 8
    assert cluster_images(None, photos, 2, features=tmp_path / 'features.npz') == cluster_images(run, photos, 2)
    (photos / BLOOD[0].name).unlink()  # it holds more than is asked for
    assert len(cluster_images(None, photos, 2, features=tmp_path / 'features.npz')) == 11


def test_files_that_do_not_fit_are_refused(run, photos, tmp_path):
    out = tmp_path / 'features.npz'
    embed(run, photos, out)
    write_run(tmp_path / 'other', ENCODERS['ConvNeXt V2'])
    with pytest.raises(UserError, match=r'features\.npz was made with another encoder \(weights \w{16}\) than .*other'):
        find_similar(tmp_path / 'other', photos, BLOOD[0], features=out)
    with pytest.raises(UserError, match='does not apply'):
        cluster_images(run, photos, 2, features=out, size=32)
    with pytest.raises(UserError, match='Name an encoder, or a file of features'):
        cluster_images(None, photos, 2)
    with pytest.raises(UserError, match='There is no file'):
        cluster_images(None, photos, 2, features=tmp_path / 'missing.npz')
    shutil.copy(BLOOD[30], photos / 'new.jpg')
    with pytest.raises(UserError, match=r'lacks 1 of 13 images, such as new\.jpg: bring it up to date'):
        cluster_images(None, photos, 2, features=out)
    (photos / 'new.jpg').unlink()
    shutil.copy(BLOOD[31], photos / BLOOD[0].name)
    with pytest.raises(UserError, match=rf'made before 1 image changed, such as {BLOOD[0].name}'):
        cluster_images(None, photos, 2, features=out)


def test_mistakes_of_similar(run, photos, tmp_path):
    with pytest.raises(UserError, match='There are 12 other images, and 20 should be found'):
        find_similar(run, photos, BLOOD[20], count=20)
    with pytest.raises(UserError, match='There are 0 other images, and 1 should be found'):
        find_similar(run, BLOOD[0], BLOOD[0])
    (tmp_path / 'bad.jpg').write_text('broken')
    with pytest.raises(UserError, match=r'bad\.jpg cannot be read: '):
        find_similar(run, photos, tmp_path / 'bad.jpg')
    with pytest.raises(UserError, match=r'no vectors .level9\.mean.|no level 9'):
        find_similar(run, photos, BLOOD[0], vectors='level9.mean')
    with pytest.raises(UserError, match='photos is 12 images, and others are compared with one'):
        find_similar(run, photos, photos)
    with pytest.raises(UserError, match=r'must end in \.png'):
        find_similar(run, photos, BLOOD[0], tmp_path / 'sheet.jpg')
    with pytest.raises(UserError, match='lies among the images of'):
        find_similar(run, photos, BLOOD[0], photos / 'sheet.png')
    (tmp_path / 'sheet.json').write_text('{}')
    with pytest.raises(UserError, match='this tool did not write it'):
        find_similar(run, photos, BLOOD[0], tmp_path / 'sheet.png')


def plant(path, folder, number, rng):
    """Cut out 60 to 90 % of each side of an image, in another size, as a JPEG, PNG or WebP; return its name."""
    picture = Image.open(path).convert('RGB')
    part, scale = rng.uniform(0.6, 0.9), rng.uniform(0.7, 1.5)
    width, height = (round(side * part) for side in picture.size)
    left, top = rng.integers(0, picture.width - width + 1), rng.integers(0, picture.height - height + 1)
    crop = picture.crop((left, top, left + width, top + height))
    crop = crop.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    suffix, options = [('.jpg', {'quality': 60}), ('.webp', {'quality': 70}), ('.png', {})][number % 3]
    crop.save(folder / f'planted{number}{suffix}', **options)
    return f'planted{number}{suffix}'


@pytest.mark.slow
@pytest.mark.process
def test_a_planted_leak_is_found_and_nothing_else(run, tmp_path):
    """Ten images of the training set, cut out and encoded again, in a test set of 50: all are found, none is false.

    The encoder has random weights, which is the worst case.
    """
    rng = np.random.default_rng(0)
    train = copy_images([*BLOOD[:40], *NUCLEI[:20]], tmp_path / 'train')
    test = copy_images([*BLOOD[40:70], *NUCLEI[20:30]], tmp_path / 'test')
    planted = {}
    for number, path in enumerate([*BLOOD[:40:6], *NUCLEI[2:20:6]]):
        planted[plant(path, test, number, rng)] = path.name
    assert len(planted) == 10
    found = find_duplicates(run, train, test, tmp_path / 'leaks')
    names = [(os.path.basename(pair['image']), os.path.basename(pair['other'])) for pair in found]
    # Two of the blood images were taken side by side, and share two fifths; whether they are found is chance.
    found = [pair for pair, name in zip(found, names, strict=True) if name != SHARED]
    assert set(names) - {SHARED} == {(name, copy) for copy, name in planted.items()}
    assert all(pair['kind'] == 'overlap' and pair['correlation'] > 0.9 and pair['share'] > 0.9 for pair in found)
    assert len({pair['group'] for pair in found}) == len(found) == 10
    with open(tmp_path / 'leaks' / 'duplicates.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['other'] for row in rows} >= {pair['other'] for pair in found}
    record = json.loads((tmp_path / 'leaks' / 'duplicates.json').read_text())
    assert record['images'] == 110 and record['first_set'] == 60 and len(record['pairs']) == len(names)
    assert len(record['pairs'][0]['corners']) == 4
    assert Image.open(tmp_path / 'leaks' / 'duplicates.png').height > 10 * 224


def test_without_duplicates_the_list_is_empty_and_there_is_no_picture(run, tmp_path):
    train, test = copy_images(BLOOD[:4], tmp_path / 'train'), copy_images(BLOOD[4:8], tmp_path / 'test')
    shutil.copy(BLOOD[0], test)
    for folder, path in ((train, BLOOD[1]), (test, BLOOD[5])):  # copies within a set are none of a leak
        Image.open(path).save(folder / 'copy.png')
    (pair,) = find_duplicates(run, train, test, tmp_path / 'leaks')
    assert pair['kind'] == 'same' and pair['cosine'] > 0.9999 and (tmp_path / 'leaks' / 'duplicates.png').exists()
    (test / BLOOD[0].name).unlink()
    assert find_duplicates(run, train, test, tmp_path / 'leaks') == []
    assert {path.name for path in (tmp_path / 'leaks').iterdir()} == {'duplicates.csv', 'duplicates.json'}
    assert (tmp_path / 'leaks' / 'duplicates.csv').read_text().startswith('group,image,other,kind,')


def test_copies_within_a_set_are_groups(run, photos, tmp_path, capsys):
    Image.open(BLOOD[0]).resize((150, 112)).save(photos / 'small.png')
    Image.open(BLOOD[0]).save(photos / 'zcopy.webp', quality=60)
    Image.open(NUCLEI[1]).rotate(180).save(photos / 'turned.png')
    commands.main(['duplicates', str(photos), '--encoder', str(run), '--out', str(tmp_path / 'twice')])
    assert f'{len(read_pairs(tmp_path))} pairs of images in' in capsys.readouterr().out
    groups = {}
    for row in read_pairs(tmp_path):
        assert row['kind'] == 'same'
        groups.setdefault(row['group'], set()).update((row['image'], row['other']))
    expected = [{BLOOD[0].name, 'small.png', 'zcopy.webp'}, {NUCLEI[1].name, 'turned.png'}]
    assert sorted(groups.values(), key=len) == sorted(expected, key=len)


def read_pairs(tmp_path):
    with open(tmp_path / 'twice' / 'duplicates.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_images_of_one_color_are_no_duplicates(run, tmp_path):
    folder = copy_images(BLOOD[:4], tmp_path / 'photos')
    for i in range(3):
        Image.new('RGB', (40, 40), (i * 90,) * 3).save(folder / f'plain{i}.png')
    assert find_duplicates(run, folder) == []


def test_mistakes_of_duplicates(run, photos, tmp_path):
    other = copy_images(BLOOD[10:12], tmp_path / 'other')
    (other / 'link.jpg').symlink_to(photos / BLOOD[0].name)
    with pytest.raises(UserError, match=r'1 image of the second set, such as .*link\.jpg, is in the first one, too'):
        find_duplicates(run, photos, other)
    (other / 'link.jpg').unlink()
    with pytest.raises(UserError, match='lies among the images of'):
        find_duplicates(run, photos, other, other / 'out')
    broken = tmp_path / 'broken'
    broken.mkdir()
    (broken / 'a.jpg').write_text('broken')
    with pytest.raises(UserError, match='None of the images of the second set can be read'):
        find_duplicates(run, photos, broken)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'duplicates.csv').write_text('a,b\n')
    with pytest.raises(UserError, match='holds 1 file that this tool did not write'):
        find_duplicates(run, photos, other, tmp_path / 'out')


def test_clusters_with_sheets_and_links(run, photos, tmp_path, capsys):
    out = tmp_path / 'groups'
    arguments = ['cluster', str(photos), '--encoder', str(run), '--out', str(out)]
    commands.main([*arguments, '--clusters', '3', '--links'])
    said = capsys.readouterr().out
    assert '12 images in' in said and 'cluster 2: ' in said
    with open(out / 'clusters.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['image'] for row in rows} == {path.name for path in photos.iterdir()}
    links = {int(path.parent.name[-2:]): path for path in out.glob('cluster_*/*')}
    assert len(list(out.glob('cluster_*/*'))) == 12 and set(links) == {0, 1, 2}
    by_name = {row['image']: int(row['cluster']) for row in rows}
    for link in out.glob('cluster_*/*'):
        assert link.is_symlink() and by_name[link.resolve().name] == int(link.parent.name[-2:])
    assert {path.name for path in out.glob('*.png')} == {f'cluster_0{i}.png' for i in range(3)}
    (out / 'cluster_02' / 'note.txt').write_text('of a user')
    commands.main([*arguments, '--clusters', 'auto'])
    count = len(json.loads((out / 'clusters.json').read_text())['clusters'])
    assert len(list(out.glob('*.png'))) == count and not list(out.glob('cluster_*/*.jpg'))
    assert (out / 'cluster_02' / 'note.txt').read_text() == 'of a user'
    assert cluster_images(run, photos) == cluster_images(run, photos)
    twice = [str(photos), f'{photos}/*', '--encoder', str(run), '--clusters', '3', '--out', str(tmp_path / 'twice')]
    commands.main(['cluster', *twice])
    assert len((tmp_path / 'twice' / 'clusters.csv').read_text().splitlines()) == 13  # each image once


def test_images_of_two_kinds_are_two_clusters(run, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for i in range(10):
        fine = i % 2 == 0
        picture = rng.integers(0, 256, (80, 80, 3)) if fine else np.full((80, 80, 3), rng.integers(100, 110))
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / 'photos' / f'{i}.png')
    found = cluster_images(run, tmp_path / 'photos', 2, vectors='level1.max')
    assert len({found[f'{i}.png'] for i in range(0, 10, 2)}) == len({found[f'{i}.png'] for i in range(1, 10, 2)}) == 1
    assert found['0.png'] != found['1.png']


def test_mistakes_of_cluster(run, photos, tmp_path):
    with pytest.raises(UserError, match='12 images with 12 different vectors cannot make 13 clusters'):
        cluster_images(run, photos, 13)
    with pytest.raises(UserError, match='clusters=0 must be 1 or more'):
        cluster_images(run, photos, 0)
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'a.txt').touch()
    with pytest.raises(UserError, match='is not empty, and no earlier clusters are in it'):
        cluster_images(run, photos, 2, tmp_path / 'full')
    with pytest.raises(UserError, match='lies among the images'):
        cluster_images(run, photos, 2, photos / 'groups')
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='is a file: name a folder'):
        cluster_images(run, photos, 2, tmp_path / 'file')


def test_the_command_similar(run, photos, tmp_path, capsys):
    embed(run, photos, tmp_path / 'features.npz')
    capsys.readouterr()
    arguments = ['similar', str(photos), str(BLOOD[20]), '--out', str(tmp_path / 'sheet.png'), '--count', '3']
    commands.main([*arguments, '--features', str(tmp_path / 'features.npz')])
    said = [line for line in capsys.readouterr().out.splitlines() if 'INFO' not in line]
    assert sum(str(photos) in line and line[0] in '01' for line in said) == 3
    with pytest.raises(SystemExit) as ended:
        commands.main(arguments)
    assert ended.value.code == 2 and 'Name an encoder' in capsys.readouterr().err
