"""Predictions for files: a picture each, and one JSON file with all of them."""

import json
import os
from pathlib import Path

from tqdm import tqdm

from mae_toolkit.datasets import BrokenImage, open_image
from mae_toolkit.engine.files import atomic_write
from mae_toolkit.errors import UserError

RECORD = 'predictions.json'


def predict_images(predictor, images, out, side=None):
    """Predict on files, and write a picture each and ``predictions.json`` into a folder.

    Args:
        predictor (Predictor): As of :func:`load_predictor`.
        images (list[Path]): As of :func:`~mae_toolkit.datasets.image_files.find_images`.
        out (str | Path): The folder; made if there is none.
        side (int | None): Pixels of the longer side of each picture; its own size, or a multiple of a small one, if
            None.

    Returns:
        dict: What the JSON file holds: ``task``, ``classes``; ``images``, for each its path, height, width, the names
        of what was written, and what :meth:`Predictor.tell` says; ``skipped``, the path and reason of each that could
        not be read.

    Raises:
        UserError: If the folder holds some of the images, or none of them could be predicted on.
    """
    out = Path(out)
    home = os.path.realpath(out)  # unlike Path.resolve, it ends at a link that leads to itself
    if inside := [path for path in images if os.path.dirname(os.path.realpath(path)) == home]:
        raise UserError(f'{out} holds {len(inside)} of the {len(images)} images, such as {inside[0]}: write elsewhere.')
    told, skipped = [], []
    for i, path in enumerate(tqdm(images, unit='image')):
        try:
            told.append(_predict(predictor, path, out, f'{i:03d}_{path.stem}', side))
        except BrokenImage as error:
            skipped.append({'image': str(path), 'reason': error.reason})
        except UserError as error:
            skipped.append({'image': str(path), 'reason': str(error)})
    if not told:
        raise UserError(
            f'None of {len(images)} images could be read, from {skipped[0]["image"]} ({skipped[0]["reason"]}) on.'
        )
    record = {'task': predictor.task, 'classes': predictor.classes, 'images': told, 'skipped': skipped}
    atomic_write(out / RECORD, _as_text(record))
    return record


def _as_text(record):
    """JSON with a line per image."""
    parts = {name: _dump(value) for name, value in record.items()}
    parts['images'] = '[\n  ' + ',\n  '.join(map(_dump, record['images'])) + '\n ]'
    return '{\n ' + ',\n '.join(f'"{name}": {text}' for name, text in parts.items()) + '\n}\n'


def _dump(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _predict(predictor, path, out, name, side):
    """Predict on one file, write its pictures, and tell what the record holds of it."""
    image = open_image(path)
    result = predictor(image)
    picture = predictor.draw(image, result, side)
    out.mkdir(parents=True, exist_ok=True)
    picture.save(out / f'{name}.png')
    written = {'picture': f'{name}.png'}
    for kind, extra in predictor.maps(result).items():
        written[kind] = f'{name}_{kind}.png'
        extra.save(out / written[kind])
    height, width = image.size
    return {'image': str(path), 'height': height, 'width': width} | written | predictor.tell(result)
