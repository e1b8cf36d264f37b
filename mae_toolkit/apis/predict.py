"""Predict on files: write a picture for each, and one JSON file with all predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_toolkit.apis.per_image import GrowingRecord, is_record, run_over_images
from mae_toolkit.datasets.image_io import ImageFile
from mae_toolkit.downstream.predictor import Predictor
from mae_toolkit.errors import UserError
from mae_toolkit.outputs import check_output_folder, is_own_picture, make_file_name, write_picture
from mae_toolkit.printing import printable

RECORD = 'predictions.json'
TOOL = 'predict'
MAPS = ('labels',)  # the names that Predictor.maps may have


def predict_images(
    predictor: Predictor, images: Sequence[Path], out: str | Path, side: int | None = None, force: bool = False
) -> dict[str, Any]:
    """Predict on files, and write a picture for each and ``predictions.json`` into a folder.

    The JSON file is whole after each image, so that predictions are kept when the run is interrupted or killed.

    Args:
        predictor: What :func:`~mae_toolkit.apis.load_predictor` returns.
        images: The files, as :func:`~mae_toolkit.datasets.image_files.find_images` lists them.
        out: The folder; created if needed.
        side: Pixels of the longer side of each picture; its own size, or a multiple of a small one, if None.
        force: Replace files in the folder that were not written by this function.

    Returns:
        What the JSON file holds: ``task``, ``classes``; ``images``, for each its path, height, width, the names
        of what was written, and what :meth:`Predictor.to_dict` returns; ``skipped``, the path and reason of each that
        could not be predicted on.

    Raises:
        UserError: If the folder holds some of the images or files of others, or none of the images could be predicted
            on because of what they are.
        Exception: What failed first, if nothing could be predicted for another reason.
    """
    out = Path(out)
    names = prepare_folder(out, images, RECORD, 'task', TOOL, MAPS, force)
    record = GrowingRecord(out / RECORD, {'task': predictor.task, 'classes': predictor.classes})

    def work(number: int, file: ImageFile) -> dict[str, Any]:
        return _predict(predictor, file, out, names[number], side)

    return run_over_images(images, work, record, predictor.limits)


def prepare_folder(
    out: Path,
    images: Sequence[Path],
    record: str,
    first_key: str,
    tool: str,
    maps: Sequence[str] = (),
    force: bool = False,
) -> list[str]:
    """Check that a folder can take the pictures of images, and choose their names.

    Args:
        out: The folder.
        images: The images.
        record: Name of the JSON file that records what was done.
        first_key: First key in the record, by which an earlier record is recognized.
        tool: Name of the tool that writes.
        maps: Endings of the names of further pictures of each image.
        force: Replace files that this tool did not write.

    Returns:
        The name of each image's picture, without suffix.

    Raises:
        UserError: If the folder holds images that are read, or files of others under these names.
    """
    here = out.resolve() if out.is_dir() else None
    inside = [path for path in images if here is not None and _folder_of(path) == here]
    if inside:
        raise UserError(
            f'{printable(out)} holds {len(inside)} of the {len(images)} images, such as {printable(inside[0])}: '
            'write elsewhere.'
        )
    names = [f'{i:03d}_{make_file_name(Path(path).stem)}' for i, path in enumerate(images)]
    planned = [f'{name}{end}.png' for name in names for end in ('', *(f'_{kind}' for kind in maps))]

    def is_own(path: Path) -> bool:
        return is_record(path, first_key) if path.name == record else is_own_picture(path, tool)

    check_output_folder(out, [record, *planned], force, is_own)
    return names


def _folder_of(path: Path) -> Path | None:
    try:
        return Path(path).resolve().parent
    except (OSError, RuntimeError):  # a link to itself; it is skipped when it is its turn
        return None


def _predict(predictor: Predictor, file: ImageFile, out: Path, name: str, side: int | None) -> dict[str, Any]:
    """Predict on one file, write its pictures, and return its entry of the record."""
    result = predictor(file)
    entry = predictor.to_dict(result)
    pictures = {'picture': predictor.draw(file, result, side)} | predictor.maps(result)
    written = {kind: f'{name}.png' if kind == 'picture' else f'{name}_{kind}.png' for kind in pictures}
    for kind, picture in pictures.items():
        write_picture(out / written[kind], picture, TOOL)
    height, width = file.size
    return {'image': str(file.path), 'height': height, 'width': width} | written | entry
