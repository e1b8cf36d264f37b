"""What a checkpoint says of its training, its config and its classes, against what it is used with."""

import pytest
import torch

from mae_toolkit.apis import build_model, load_predictor, model_from_checkpoint
from mae_toolkit.apis.training import test as evaluate
from mae_toolkit.apis.training import train
from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.engine.classes import check_classes, read_classes
from mae_toolkit.errors import UserError
from test_classification_run import config, folder  # noqa: F401
from test_config_difference import said, shipped  # noqa: F401

CLASSES = ['cat', 'dog', 'owl']


@pytest.mark.parametrize(
    ('there', 'words'),
    [
        (['dog', 'cat', 'owl'], "the same names in another order, class 0 is 'dog' there and 'cat' here"),
        (['cat', 'dog', 'emu'], "class 2 is 'emu' there and 'owl' here"),
        (['cat', 'dog'], "class 2, 'owl', is only here"),
        (['cat', 'dog', 'owl', 'yak'], "class 3, 'yak', is only there"),
        (['dog', 'owl', 'cat', 'yak'], "class 0 is 'dog' there"),
        ([f'c{i}' for i in range(1000)], 'on 1000 classes (c0, c1, c2, c3, c4, …)'),
        (['cat\x1b[31m', 'dog', 'owl'], r'cat\x1b[31m'),
        ([0, 1, 2], "class 0 is '0' there and 'cat' here"),
    ],
)
def test_other_classes_are_refused_with_both_lists_and_the_first_difference(there, words):
    with pytest.raises(UserError) as told:
        check_classes('a.pth', {'meta': {'dataset_meta': {'classes': there}}}, CLASSES)
    sentence = str(told.value)
    assert words in sentence and 'the config has 3 (cat, dog, owl)' in sentence and '\x1b' not in sentence
    assert len(sentence) < 600


@pytest.mark.parametrize(
    ('there', 'here'),
    [
        (['Cat', 'DOG', 'owl'], CLASSES),
        (['cat ', ' dog', 'o wl'], CLASSES),
        (['cafe\N{COMBINING ACUTE ACCENT}', 'b'], ['caf\N{LATIN SMALL LETTER E WITH ACUTE}', 'b']),
    ],
)
def test_names_that_differ_in_case_blanks_or_unicode_form_are_taken_for_the_same_with_a_warning(said, there, here):  # noqa: F811
    assert check_classes('a.pth', {'meta': {'dataset_meta': {'classes': there}}}, here) == there
    assert len(said) == 1 and 'differ in upper and lower case, blanks or their Unicode form alone' in said[0]


@pytest.mark.parametrize(
    'checkpoint',
    [
        {},
        {'meta': None},
        {'meta': {}},
        {'meta': {'dataset_meta': 5}},
        {'meta': {'dataset_meta': {'classes': 'cat'}}},
        {'meta': {'dataset_meta': {'classes': []}}},
        {'meta': {'dataset_meta': {'classes': [None, []]}}},
        {'meta': {'dataset_meta': {'classes': torch.zeros(3)}}},
    ],
    ids=str,
)
def test_a_checkpoint_without_names_of_classes_is_taken(said, checkpoint):  # noqa: F811
    assert read_classes(checkpoint) is None and check_classes('a.pth', checkpoint, CLASSES) is None and not said


def test_equal_names_as_list_or_tuple_and_of_older_versions_are_taken(said):  # noqa: F811
    for meta in (
        {'dataset_meta': {'classes': tuple(CLASSES)}},
        {'dataset_meta': {'CLASSES': CLASSES}},
        {'CLASSES': CLASSES},
    ):
        for here in (CLASSES, tuple(CLASSES), None, ()):
            assert check_classes('a.pth', {'meta': meta}, here) == CLASSES
    assert not said


def test_test_resume_and_predict_look_at_what_the_checkpoint_says(folder, said):  # noqa: F811
    cfg = config(folder, epochs=1)
    train(cfg, folder / 'run')
    assert not said
    path = folder / 'run' / 'epoch_1.pth'
    cfg = config(folder, epochs=2)
    evaluate(cfg, str(path), folder / 'test')
    load_predictor(cfg, str(path))
    assert not said

    cfg.val_dataloader.dataset.pipeline[0].size = 20
    evaluate(cfg, str(path), folder / 'test2')
    load_predictor(cfg, str(path))
    assert len(said) == 2 and said[0] == said[1]
    assert f'{path} was trained with other options' in said[0]
    assert 'val_dataloader.dataset.pipeline.0.size was 16 and is 20. Unless this is on purpose' in said[0]

    said.clear()
    cfg.optim_wrapper.optimizer.lr = 0.5
    with pytest.raises(
        UserError, match=r'lr was 0\.01 and is 0\.5\. Resume it with those options, .*--allow-changed-config'
    ):
        train(cfg, folder / 'run', resume='auto')
    assert not said and newest_checkpoint(folder / 'run') == path
    train(cfg, folder / 'run', resume='auto', allow_changed_config=True)
    assert len(said) == 1 and 'optim_wrapper.optimizer.lr was 0.01 and is 0.5. Learning rate, weight decay' in said[0]

    said.clear()
    cfg.model.num_classes, cfg.model.encoder.depth = 2, 1  # said before it is refused by a shape
    with pytest.raises(UserError, match='does not fit the model'):
        load_predictor(cfg, str(path))
    assert 'model.num_classes was 3 and is 2' in said[0] and 'model.encoder.depth was 2 and is 1' in said[0]


def test_other_classes_are_refused_before_anything_is_tested_or_resumed(folder, said):  # noqa: F811
    cfg = config(folder, epochs=1)
    train(cfg, folder / 'run')
    path = folder / 'run' / 'epoch_1.pth'
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.classes = ['dark', 'bright', 'middling']
    with pytest.raises(
        UserError, match=r"the dataset has 3 \(dark, .*another order, class 0 is 'bright' there and 'dark'"
    ):
        evaluate(cfg, str(path), folder / 'test')
    cfg = config(folder, epochs=2)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.classes = ['dark', 'bright', 'middling']
    with pytest.raises(UserError, match='in another order'):
        train(cfg, folder / 'run', resume='auto')
    assert not (folder / 'run' / 'epoch_2.pth').exists() and not said


def test_weights_that_a_training_begins_with_may_be_of_another_config(folder, said):  # noqa: F811
    train(config(folder, epochs=1), folder / 'run')
    cfg = config(folder, epochs=1, lr=0.5)
    cfg.load_from = str(folder / 'run' / 'epoch_1.pth')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.classes = ['dark', 'bright', 'middling']
    train(cfg, folder / 'other')
    assert not said
    train(cfg, folder / 'third', resume='auto')  # there is nothing to resume
    assert not said


def test_a_reconstruction_compares_the_model_alone(tmp_path, said):  # noqa: F811
    cfg = shipped('pretrain/quickstart.py')
    cfg.model.encoder |= {'depth': 1, 'embed_dim': 24, 'num_heads': 2, 'img_size': 32}
    state = build_model(cfg).state_dict()
    torch.save({'state_dict': state, 'meta': {'cfg': cfg.pretty_text}}, tmp_path / 'a.pth')
    model_from_checkpoint(cfg, str(tmp_path / 'a.pth'))
    cfg.val_dataloader.dataset.pipeline[0].size = 20
    model_from_checkpoint(cfg, str(tmp_path / 'a.pth'))
    assert not said
    cfg.model.masking.ratio = 0.5
    model_from_checkpoint(cfg, str(tmp_path / 'a.pth'))
    assert len(said) == 1 and 'model.masking.ratio was 0.75 and is 0.5' in said[0]
