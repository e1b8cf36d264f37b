"""Small detection sets of colored rectangles in COCO's format, made on the fly."""

import json

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64
CLASSES = ('red', 'blue')


def make_content(images=8, first=1, seed=0):
    """Three boxes with polygons in each image, of two classes in turn."""
    rng = np.random.default_rng(seed)
    content = {
        'images': [],
        'annotations': [],
        'categories': [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)],
    }
    for i in range(first, first + images):
        content['images'].append({'id': i, 'file_name': f'{i}.jpg', 'width': WIDTH, 'height': HEIGHT})
        for j in range(3):
            width, height = (int(side) for side in rng.integers(14, 28, 2))
            x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
            polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
            content['annotations'].append(
                {
                    'id': 3 * i + j,
                    'image_id': i,
                    'category_id': j % 2 + 1,
                    'bbox': [x, y, width, height],
                    'area': width * height,
                    'iscrowd': 0,
                    'segmentation': [polygon],
                }
            )
    return content


def write_images(folder, content, orientation=1, size=(WIDTH, HEIGHT), suffix='JPEG'):
    """Write a picture for each image that is listed."""
    exif = Image.Exif()
    exif[274] = orientation
    (folder / 'images').mkdir(exist_ok=True)
    for image in content['images']:
        Image.new('RGB', size).save(folder / 'images' / image['file_name'], suffix, exif=exif.tobytes())


def make_config(folder, split='train', masks=False, **dataset):
    """A config that trains on, or validates on, the set in a folder."""
    steps = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': masks}]
    dataset = {
        'type': 'CocoDataset',
        'data_root': str(folder),
        'ann_file': 'set.json',
        'data_prefix': {'img': 'images/'},
        'metainfo': {'classes': CLASSES},
        'pipeline': steps,
    } | dataset
    evaluator = {'type': 'CocoMetric', 'ann_file': str(folder / 'set.json'), 'metric': 'segm' if masks else 'bbox'}
    return {'default_scope': 'mmdet', f'{split}_dataloader': {'dataset': dataset}, f'{split}_evaluator': evaluator}


def make_set(folder, change=None, split='train', masks=False, orientation=1, **dataset):
    """Write a set whose content a function has changed, and return the config of it."""
    content = make_content()
    write_images(folder, content, orientation)
    content = (change(content) if change else None) or content
    (folder / 'set.json').write_text(json.dumps(content))
    return make_config(folder, split, masks, **dataset)
