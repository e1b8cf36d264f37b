"""Videos, single images and lists of images are refused in one sentence, wherever a batch is expected."""

import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.models.classification_preprocessor import ClassificationPreprocessor
from mae_toolkit.models.classifier import Classifier
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.models.teacher import Teacher
from mae_toolkit.registry import build
from parts import ENCODERS, MASKINGS, make_model

MODEL = make_model()
ENTRIES = {
    'a preprocessor': lambda imgs: ImagePreprocessor()({'imgs': imgs}),
    'a preprocessor of classifiers': lambda imgs: ClassificationPreprocessor(num_classes=2)({'imgs': imgs}),
    'the loss of a model': lambda imgs: MODEL(imgs, mode='loss'),
    'the predictions of a model': lambda imgs: MODEL(imgs, mode='predict'),
    'the features of a model': lambda imgs: MODEL(imgs),
    'a classifier': lambda imgs: Classifier(ENCODERS['ViT'], num_classes=2)(imgs),
    'a teacher': lambda imgs: Teacher(ENCODERS['ViT'])(imgs),
    "a teacher's attention": lambda imgs: Teacher(ENCODERS['ViT']).class_attention(imgs, (4, 6)),
    "timm's teacher": lambda imgs: Teacher({'type': 'timm', 'arch': 'resnet18'})(imgs),
    **{
        name: lambda imgs, name=name: build(Encoder, ENCODERS[name])(imgs)
        for name in ('ViT', 'ConvNeXt', 'Hiera', 'SparseCNN')
    },
}
BATCHES = {
    r'imgs have the shape \(2, 3, 3, 32, 48\), of 5 dimensions, not 4, .*: make images .* imgs.flatten\(0, 1\)': (
        2,
        3,
        3,
    ),
    r'imgs have the shape \(3, 32, 48\), of 3 dimensions, not 4, .*: give a batch of one image, imgs\[None\]': (3,),
}


@pytest.mark.parametrize('entry', ENTRIES)
@pytest.mark.parametrize(('sentence', 'shape'), BATCHES.items(), ids=['video', 'image'])
def test_another_number_of_dimensions_is_refused(entry, sentence, shape):
    with pytest.raises(UserError, match=sentence):
        ENTRIES[entry](torch.rand(*shape, 32, 48))


def test_a_list_of_images_is_no_batch():
    with pytest.raises(UserError, match='imgs must be one tensor .* not a list: stack images of one size'):
        ImagePreprocessor()({'imgs': [torch.rand(3, 32, 48)]})


@pytest.mark.parametrize('name', MASKINGS)
def test_maskings_refuse_them_too(name):
    masking = make_model(masking=MASKINGS[name]).masking
    with pytest.raises(UserError, match='of 5 dimensions'):
        masking.draw_cells(torch.rand(2, 3, 3, 32, 48))
