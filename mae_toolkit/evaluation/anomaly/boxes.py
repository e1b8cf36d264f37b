"""Test images whose defects are boxes: COCO's annotation files, and normal images from another folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks.coco.file import read_annotation_file
from mae_toolkit.datasets.checks.coco.ids import is_id
from mae_toolkit.datasets.image_headers import read_image_headers
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.layout import GOOD, Box, LabeledImage, list_named, list_tested
from mae_toolkit.printing import format_count, some

DEFECTIVE = 'defective'  # what an image with boxes is, whatever their categories are called
BEYOND = 1.0  # pixels by which a box may reach beyond its image: it was rounded


def list_labeled(
    folder: str | Path,
    boxes: str | Path | None = None,
    normal: str | Path | None = None,
    normal_list: str | Path | None = None,
) -> list[LabeledImage]:
    """List test images: of the layout of MVTec AD, or of COCO's JSON file if one is named; see :func:`list_boxed`.

    Raises:
        UserError: If normal images are named beside the layout, which has its own, or something does not fit.
    """
    if boxes is not None:
        return list_boxed(folder, boxes, normal, normal_list)
    if normal is not None or normal_list is not None:
        raise UserError(
            f'Normal images are named by {normal or normal_list}, and no boxes: in the layout of MVTec AD, those of '
            'test/good are normal.'
        )
    return list_tested(folder)


def list_boxed(
    folder: str | Path,
    annotations: str | Path,
    normal: str | Path | None = None,
    normal_list: str | Path | None = None,
) -> list[LabeledImage]:
    """List test images whose defects are boxes, and normal images beside them.

    The images that the annotation file names are tested, whatever else is in the folder. Those without a box are
    normal, as COCO has it. Each box, whatever its category, is a defect.

    Args:
        folder: The images of the annotation file, which its ``file_name`` are relative to.
        annotations: COCO's JSON file.
        normal: Folder of further normal images; None if there are none.
        normal_list: Text file or COCO's JSON file that names those of them that are used; all if None.

    Returns:
        The images, in the order of the file, with the normal ones behind them.

    Raises:
        UserError: If the file is not COCO's, names images that the folder does not have or of another size, has a box
            that is not in its image, or an image with boxes is also named normal.
    """
    if normal is None and normal_list is not None:
        raise UserError(f'A list of normal images is given, {normal_list}, and no folder of them: name the folder.')
    root, file = Path(folder), Path(annotations)
    if not root.is_dir():
        raise UserError(f'There is no folder {root} of the images of {file}.')
    try:
        content = read_annotation_file(file, ('categories',))
    except UserError as error:
        raise UserError(f'{file}: {error}') from None
    paths = list_named(root, file)
    sizes = _read_sizes(file, content['images'], paths)
    boxes = _gather_boxes(file, content)
    category = root.resolve().name
    found = []
    for image, path, size in zip(content['images'], paths, sizes, strict=True):
        mine = tuple(_fit_box(file, path, one, size) for one in boxes[image['id']])
        found.append(LabeledImage(path, category, DEFECTIVE if mine else GOOD, None, mine))
    if not any(one.is_defective for one in found):
        raise UserError(f'{file} has {format_count(len(found), "image")} and no boxes: which ones are defective?')
    return found if normal is None else found + _list_normal(normal, normal_list, file, found, category)


def _list_normal(
    folder: str | Path, names: str | Path | None, file: Path, boxed: list[LabeledImage], category: str
) -> list[LabeledImage]:
    paths = list_named(folder, names)
    known = {one.path.resolve(): one.is_defective for one in boxed}
    both = [path for path in paths if known.get(path.resolve())]
    if both:
        raise UserError(
            f'{len(both)} of the {format_count(len(paths), "image")} of {folder} that are to be normal have boxes in '
            f'{file} ({some([path.name for path in both], 3)}): name a folder, or a list, of normal images alone.'
        )
    return [LabeledImage(path, category, GOOD, None) for path in paths if path.resolve() not in known]


def _read_sizes(file: Path, images: list[dict[str, Any]], paths: list[Path]) -> list[tuple[int, int] | None]:
    """Read the sizes (height, width) of the images from their headers, and compare them with what the file says."""
    if len(paths) != len(images):
        raise UserError(f'{file} names {format_count(len(images) - len(paths), "image")} twice: name each once.')
    sizes = []
    for image, header in zip(images, read_image_headers(paths), strict=True):
        said = image.get('height'), image.get('width')
        if header.size and None not in said and said != header.size:
            raise UserError(
                f'{header.path} has {header.size[0]} x {header.size[1]} pixels, and {file} says {said[0]} x {said[1]}: '
                'its boxes were drawn on another image.'
            )
        sizes.append(header.size)
    return sizes


def _gather_boxes(file: Path, content: dict[str, Any]) -> dict[Any, list[list[float]]]:
    """Gather the boxes [left, top, width, height] of each image by its id."""
    ids = [image.get('id') for image in content['images']]
    if not all(map(is_id, ids)) or len(set(ids)) != len(ids):
        raise UserError(f'{file} has images without an "id", or with that of another: number them.')
    boxes: dict[Any, list[list[float]]] = {number: [] for number in ids}
    lost = [one.get('image_id') for one in content['annotations'] if not _is_known(one.get('image_id'), boxes)]
    if lost:
        raise UserError(
            f'{file} has {format_count(len(lost), "annotation")} of images that it does not have (image_id '
            f'{some(lost, 3)}): write the file again.'
        )
    for number, one in enumerate(content['annotations']):
        box = one.get('bbox')
        if not isinstance(box, list) or len(box) != 4 or not all(type(x) in (int, float) for x in box):
            raise UserError(
                f'{file}: annotations[{number}] has the "bbox" {box!r}: expected is [left, top, width, height] in '
                'pixels.'
            )
        boxes[one['image_id']].append(box)
    return boxes


def _is_known(number: Any, boxes: dict[Any, list[list[float]]]) -> bool:
    return is_id(number) and number in boxes


def _fit_box(file: Path, path: Path, box: list[float], size: tuple[int, int] | None) -> Box:
    """Turn a box [left, top, width, height] into its corners; refuse one that is empty or not in its image."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    height, width = size or (math.inf, math.inf)  # an image that cannot be read is refused when it is scored
    is_inside = left >= -BEYOND and top >= -BEYOND and right <= width + BEYOND and bottom <= height + BEYOND
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if not (is_inside and left < right and top < bottom):
        pixels = f'{size[0]} x {size[1]} pixels' if size else 'unknown size'
        raise UserError(
            f'{file}: the box {box} (left, top, width, height) is empty or does not lie in {path.name}, of {pixels}: '
            'fix or remove it.'
        )
    return left, top, right, bottom
