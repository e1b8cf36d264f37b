"""Annotations of COCO's format, as far as MMDetection's metric needs them."""

import copy

from mae_toolkit.errors import UserError
from mae_toolkit.printing import some

NEEDED = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd')
FEWEST = 6  # numbers of a polygon: three points
MOST_NAMED = 3


def has_coco_annotations(metric) -> bool:
    """Whether a metric compares with the annotations of a file of COCO's format."""
    api = getattr(metric, '_coco_api', None)
    return isinstance(getattr(api, 'dataset', None), dict) and hasattr(api, 'createIndex') and hasattr(api, 'imgs')


def check_annotations(metric) -> None:
    """Refuse annotations with which ``CocoMetric`` would fail, or which leave it nothing to measure.

    Raises:
        UserError: With how many there are, and the first few by image and id.
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
    found = {}
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
            f'({_listed(api, faulty)}){more}, and cannot be evaluated: mend or remove them{boxes}.'
        )


def find_fault(annotation: dict, segments: bool) -> str:
    """Say what ``CocoMetric`` cannot use about an annotation; empty if there is nothing.

    Args:
        annotation: As it is in the file.
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
    if isinstance(shape, list) and any(not isinstance(part, list) or len(part) < FEWEST for part in shape):
        return "a polygon of fewer than three points in 'segmentation'"
    return ''


def keep_images(api, image_ids: set):
    """Return annotations of some images alone, with copies of them, as an evaluation changes annotations."""
    part = copy.copy(api)
    part.dataset = dict(api.dataset)
    part.dataset['images'] = [image for image in api.dataset['images'] if image['id'] in image_ids]
    part.dataset['annotations'] = copy.deepcopy(
        [one for one in api.dataset.get('annotations', []) if one['image_id'] in image_ids]
    )
    part.createIndex()
    if hasattr(api, 'img_ann_map'):  # second names that MMDetection gives them
        part.img_ann_map, part.cat_img_map = part.imgToAnns, part.catToImgs
    return part


def _listed(api, annotations: list[dict]) -> str:
    """The first few annotations, by id and name of the image."""
    images = [api.imgs.get(one.get('image_id'), {}).get('file_name', one.get('image_id')) for one in annotations]
    return some([f'id {one.get("id")} of {image}' for one, image in zip(annotations, images, strict=True)], MOST_NAMED)
