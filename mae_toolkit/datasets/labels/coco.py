"""Read COCO annotations: one file, or one for each split, with images wherever they lie."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks.coco.file import read_annotation_file
from mae_toolkit.datasets.labels.belonging import refuse_strangers
from mae_toolkit.datasets.labels.boxes import BoxLabels, LabeledImage, measure_images
from mae_toolkit.datasets.labels.splits import UNASSIGNED, find_split, settle_splits
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some

KEPT = ('bbox', 'area', 'iscrowd', 'segmentation')
LOOKED_AT = 200  # file names by which the folder of the images is found


def read_coco(files: Sequence[Path], images: Path | None = None) -> BoxLabels:
    """Read COCO files; several are splits, which their names or folders tell, such as ``train.json`` and ``val.json``.

    One whose name tells no split is of training, if no other is.

    Categories of several files are joined by name, in the order of the first file.

    Args:
        files: The files.
        images: Folder to which their ``file_name`` is relative; looked for near each file if None.

    Raises:
        UserError: If a file is not in COCO's format, images are missing, two files could be the same split, or none is
            of training.
    """
    contents = {file: _load(file) for file in files}
    names = [category['name'] for content in contents.values() for category in _sorted_categories(content)]
    splits: dict[str, list[LabeledImage]] = {}
    notes: list[str] = []
    for file, content in contents.items():
        split = UNASSIGNED if len(files) == 1 else _find_split(file, files)
        if split in splits:
            raise UserError(
                f'{some([printable(f) for f in files])}: the names do not say which file is of which split; call them '
                'train.json, val.json and test.json, or give one file.'
            )
        folder = images or _find_folder(file, content)
        splits[split], more = _read_images(file, content, folder)
        notes += more
    splits, more = settle_splits(splits)
    return BoxLabels('COCO', list(dict.fromkeys(names)), splits, notes + more)


def _find_split(file: Path, files: Sequence[Path]) -> str:
    """Tell the split of a file by its name, or by that of its folder where not all files lie in it."""
    in_one_folder = len({other.parent for other in files}) == 1
    return find_split(file.name if in_one_folder else Path(file.parent.name, file.name)) or UNASSIGNED


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
    names = _name_categories(file, content)
    entries = [image for image in content['images'] if isinstance(image, dict) and 'file_name' in image]
    paths = {image['id']: (folder / image['file_name']).resolve() for image in entries}
    if len(paths) < len(entries):
        raise UserError(
            f'{printable(file)} has repeated ids ({format_count(len(entries) - len(paths), "image")}): give each image '
            'an id of its own.'
        )
    refuse_strangers(file, folder, [image['file_name'] for image in entries], [p.is_file() for p in paths.values()])
    _refuse_lost(file, content['annotations'], paths.keys(), names)
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


def _name_categories(file: Path, content: dict[str, Any]) -> dict[Any, str]:
    categories = _sorted_categories(content)
    names = {category['id']: category['name'] for category in reversed(categories)}
    for category in categories:
        number, name, other = category['id'], category['name'], names[category['id']]
        if name != other:
            raise UserError(
                f'{printable(file)} has two categories of the id {number!r}: {other} and {name}; number them.'
            )
    return names


def _refuse_lost(
    file: Path, annotations: Sequence[dict[str, Any]], images: Collection[Any], categories: Mapping[Any, str]
) -> None:
    """Refuse annotations whose image or category is not in the file, and boxes that are not four numbers."""
    for key, known, what in (('image_id', images, 'an image'), ('category_id', categories, 'a category')):
        lost = [item.get(key) for item in annotations if not _is_among(item.get(key), known)]
        if lost:
            shown = some(list(dict.fromkeys(map(repr, lost))), 3)
            there = some(list(map(repr, known)), 3) or 'none'
            raise UserError(
                f'{len(lost)} of the {len(annotations)} annotations of {printable(file)} are of {what} that it does '
                f'not have ({key} {shown}; the ids there are {there}): correct the ids, or remove these annotations.'
            )
    bad = [item for item in annotations if 'bbox' in item and not is_box(item['bbox'])]
    if bad:
        shown = some([f'{item["bbox"]!r:.60}' for item in bad], 3)
        raise UserError(
            f'{len(bad)} of the {len(annotations)} annotations of {printable(file)} have a bbox that is not left, top, '
            f'width and height in pixels ({shown}): correct them, or remove these annotations.'
        )


def _is_among(number: Any, known: Collection[Any]) -> bool:
    return isinstance(number, int | str | float) and number in known


def is_box(box: Any) -> bool:
    """Return whether a value is left, top, width and height: four finite numbers.

    Args:
        box: The value.
    """
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and isfinite(v) for v in box)


def _make_image(entry: dict[str, Any], path: Path, sizes: dict[Path, tuple[int, int]]) -> LabeledImage:
    """Make an image of the size that the file gives, which the check of the data compares with that of the picture."""
    height, width = sizes.get(path, (0, 0))
    return LabeledImage(path, (entry.get('height') or height, entry.get('width') or width))


def _with_area(item: dict[str, Any]) -> dict[str, Any]:
    """Add the area of the box where there is none."""
    box = item['bbox']
    return {'area': box[2] * box[3]} | item
