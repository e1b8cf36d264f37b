"""Read COCO annotations: one file, or one for each split, with images wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks.coco.file import read_annotation_file
from mae_toolkit.datasets.labels.belonging import refuse_strangers
from mae_toolkit.datasets.labels.boxes import BoxLabels, LabeledImage, measure_images
from mae_toolkit.datasets.labels.splits import find_split
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable, some

KEPT = ('bbox', 'area', 'iscrowd', 'segmentation')
LOOKED_AT = 200  # file names by which the folder of the images is found


def read_coco(files: Sequence[Path], images: Path | None = None) -> BoxLabels:
    """Read COCO files; several are splits, which their names or folders tell, such as ``train.json`` and ``val.json``.

    Categories of several files are joined by name, in the order of the first file.

    Args:
        files: The files.
        images: Folder to which their ``file_name`` is relative; looked for near each file if None.

    Raises:
        UserError: If a file is not in COCO's format, images are missing, or splits cannot be told apart.
    """
    contents = {file: _load(file) for file in files}
    names = [category['name'] for content in contents.values() for category in _sorted_categories(content)]
    splits: dict[str, list[LabeledImage]] = {}
    notes: list[str] = []
    for file, content in contents.items():
        split = 'all' if len(files) == 1 else find_split(file)
        if split is None or split in splits:
            raise UserError(
                f'{some([printable(f) for f in files])}: the names do not say which file is of which split; call them '
                'train.json, val.json and test.json, or give one file.'
            )
        folder = images or _find_folder(file, content)
        splits[split], more = _read_images(file, content, folder)
        notes += more
    return BoxLabels('COCO', list(dict.fromkeys(names)), splits, notes)


def _load(file: Path) -> dict[str, Any]:
    try:
        return read_annotation_file(file)
    except UserError as error:
        raise UserError(f'{printable(file)}: {error}') from None


def _sorted_categories(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [category for category in content['categories'] if isinstance(category, dict) and 'name' in category]


def _names_of(content: dict[str, Any]) -> list[str]:
    return [image['file_name'] for image in content['images'] if isinstance(image, dict) and 'file_name' in image]


def _find_folder(file: Path, content: dict[str, Any]) -> Path:
    """Find the folder to which the file names are relative, among those near the annotations."""
    names = _names_of(content)[:LOOKED_AT]
    here = file.resolve().parent
    folders = [here, here / 'images', here / file.stem, here.parent, here.parent / 'images']
    folders += [folder / part for folder in (here.parent, here.parent / 'images') for part in _parts(file.stem)]
    found = {folder: sum((folder / name).is_file() for name in names) for folder in dict.fromkeys(folders)}
    return max(found, key=lambda folder: found[folder])


def _parts(stem: str) -> Iterable[str]:
    """Yield the folders that COCO's names promise: ``train2017`` for ``instances_train2017``, and ``train``."""
    yield stem.rpartition('_')[2]
    yield stem.partition('_')[0]


def _read_images(file: Path, content: dict[str, Any], folder: Path) -> tuple[list[LabeledImage], list[str]]:
    """Read the images of one file that exist, with their objects; the checks of the data look at the rest."""
    names = {category['id']: category['name'] for category in _sorted_categories(content)}
    entries = [image for image in content['images'] if isinstance(image, dict) and 'file_name' in image]
    paths = {image['id']: (folder / image['file_name']).resolve() for image in entries}
    if len(paths) < len(entries):
        raise UserError(f'{printable(file)}: {len(entries) - len(paths)} images have the id of another: number them.')
    refuse_strangers(file, folder, [image['file_name'] for image in entries], [p.is_file() for p in paths.values()])
    sizes, notes = measure_images(list(paths.values()))
    found = {image['id']: _make_image(image, paths[image['id']], sizes) for image in entries}
    found = {number: image for number, image in found.items() if image.path in sizes}
    items = [item for item in content['annotations'] if item.get('image_id') in found]
    known = [item for item in items if item.get('category_id') in names and 'bbox' in item]
    for item in known:
        kept = {key: item[key] for key in KEPT if item.get(key) not in (None, [])}
        found[item['image_id']].objects.append(
            {'category': names[item['category_id']], 'iscrowd': 0} | _with_area(kept)
        )
    lost = len(content['annotations']) - len(known)
    notes += [f'{lost} of the {len(content["annotations"])} annotations have no image, category or box'] if lost else []
    return list(found.values()), notes


def _make_image(entry: dict[str, Any], path: Path, sizes: dict[Path, tuple[int, int]]) -> LabeledImage:
    """Make an image of the size that the file gives, which the check of the data compares with that of the picture."""
    height, width = sizes.get(path, (0, 0))
    return LabeledImage(path, (entry.get('height') or height, entry.get('width') or width))


def _with_area(item: dict[str, Any]) -> dict[str, Any]:
    """Add the area of the box where there is none."""
    box = item['bbox']
    is_box = isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
    return {'area': box[2] * box[3]} | item if is_box else item
