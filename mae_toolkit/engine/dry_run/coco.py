"""Check COCO annotations as far as MMDetection's metric needs them."""

import copy
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.printing import some

NEEDED = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd')
FEWEST_NUMBERS = 6  # of a polygon: three points
MOST_NAMED = 3


def has_coco_annotations(metric: Any) -> bool:
    """Return whether a metric compares predictions with COCO annotations from a file."""
    api = getattr(metric, '_coco_api', None)
    return isinstance(getattr(api, 'dataset', None), dict) and hasattr(api, 'createIndex') and hasattr(api, 'imgs')


def check_annotations(metric: Any) -> None:
    """Refuse annotations with which ``CocoMetric`` would fail, or which leave it nothing to measure.

    Args:
        metric: A metric for which :func:`has_coco_annotations` is true.

    Raises:
        UserError: With the number of faulty annotations, and the first few by id and image.
    """
    api = metric._coco_api
    annotations = api.dataset.get('annotations') or []
    if not annotations:
        raise UserError(
            f'The annotations of the validation have no object in any of {len(api.imgs)} images, so that each metric '
            'would be -1: give val_evaluator.ann_file (and that of val_dataloader) a file with annotations.'
        )
    classes = (metric.dataset_meta or {}).get('classes')
    used = set(api.get_cat_ids(cat_names=classes)) if classes else set(api.cats)
    segments = 'segm' in metric.metrics
    found: dict[str, list[dict]] = {}
    for annotation in annotations:
        if annotation.get('category_id') in used and (fault := find_fault(annotation, segments)):
            found.setdefault(fault, []).append(annotation)
    if found:
        fault, faulty = max(found.items(), key=lambda item: len(item[1]))
        others = sum(map(len, found.values())) - len(faulty)
        more = f', and {others} have other faults' if others else ''
        boxes = ', or evaluate boxes alone by val_evaluator.metric=bbox' if 'segmentation' in fault else ''
        raise UserError(
            f'{len(faulty)} of the {len(annotations)} annotations of the validation have {fault} '
            f'({_format_annotations(api, faulty)}){more}, and cannot be evaluated: mend or remove them{boxes}.'
        )


def find_fault(annotation: dict, segments: bool) -> str:
    """Describe what ``CocoMetric`` cannot use in an annotation; empty if there is nothing.

    Args:
        annotation: The annotation, as it is in the file.
        segments: Whether masks are evaluated, too.
    """
    lacking = [name for name in NEEDED if annotation.get(name) is None]
    if lacking:
        return f'no {lacking[0]!r}'
    if not segments:
        return ''
    shape = annotation.get('segmentation')
    if not shape:
        return "an empty 'segmentation'" if shape is not None else "no 'segmentation'"
    if isinstance(shape, list) and any(not isinstance(part, list) or len(part) < FEWEST_NUMBERS for part in shape):
        return "a polygon of fewer than three points in 'segmentation'"
    return ''


def keep_images(api: Any, image_ids: set[int]) -> Any:
    """Copy the annotations of some images, which an evaluation may change.

    Args:
        api: The annotations, a ``COCO`` of ``pycocotools``.
        image_ids: Ids of the images.
    """
    part = copy.copy(api)
    part.dataset = dict(api.dataset)
    part.dataset['images'] = [image for image in api.dataset['images'] if image['id'] in image_ids]
    part.dataset['annotations'] = copy.deepcopy(
        [one for one in api.dataset.get('annotations', []) if one['image_id'] in image_ids]
    )
    part.createIndex()
    if hasattr(api, 'img_ann_map'):  # other names that MMDetection gives them
        part.img_ann_map, part.cat_img_map = part.imgToAnns, part.catToImgs
    return part


def _format_annotations(api: Any, annotations: list[dict]) -> str:
    """Name the first few annotations by id and image."""
    images = [api.imgs.get(one.get('image_id'), {}).get('file_name', one.get('image_id')) for one in annotations]
    return some([f'id {one.get("id")} of {image}' for one, image in zip(annotations, images, strict=True)], MOST_NAMED)
