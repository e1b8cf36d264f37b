"""Fit a detector of anomalies on normal images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_toolkit import __version__
from mae_toolkit.apis.anomaly import AnomalyDetector
from mae_toolkit.apis.anomaly_branches import make_recipes
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.detector import Detector
from mae_toolkit.evaluation.anomaly.layout import list_normal
from mae_toolkit.evaluation.anomaly.splits import split_normal
from mae_toolkit.evaluation.anomaly.tiles import Tiling
from mae_toolkit.planning.device import find_device

UNIT = 32  # the default size of tiles for a model is a multiple of it


def fit_anomaly_detector(
    source: str | Path,
    normal: str | Path | Sequence[str | Path],
    methods: Sequence[str] = ('patchcore',),
    *,
    reconstruct_with: str | Path | None = None,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    tile: int | None = None,
    overlap: float = 0.25,
    smooth: float = 4.0,
    shots: int | None = None,
    held_out: float = 0.2,
    held_out_images: str | Path | Sequence[str | Path] = (),
    normal_list: str | Path | None = None,
    held_out_list: str | Path | None = None,
    percentile: float = 95.0,
    decide_by: str = 'max',
    seed: int = 0,
    batch_size: int = 16,
    device: str | None = None,
    show_progress: bool = True,
    **settings: Any,
) -> AnomalyDetector:
    """Fit a detector of anomalies on normal images.

    Example::

        detector = fit_anomaly_detector('runs/photos', 'parts/normal', ['patchcore', 'reconstruction'], coreset=0.05)
        detector.save('parts.safetensors')

    Args:
        source: Encoder: the folder of a run, an exported folder, a checkpoint or weights, see
            :func:`~mae_toolkit.apis.load_encoder`.
        normal: A folder of normal images, a category or a folder of categories in the layout of MVTec AD, or
            several that go into one model.
        methods: Some of ``'patchcore'``, ``'padim'``, ``'anomalydino'`` and ``'reconstruction'``; maps of several
            are standardized on held-out images and averaged.
        reconstruct_with: Run of the masked autoencoder for ``'reconstruction'``, if it is not the source.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels to which images, or tiles, are resized, or height and width. If None, as in the training, and
            tiles about as they are.
        tile: Pixels per side of the tiles into which images are cut; None for whole images.
        overlap: Share of a side by which tiles overlap at least.
        smooth: Standard deviation of the Gaussian that smooths maps, in their pixels.
        shots: Images of each category that are used, drawn by the seed; all if None.
        held_out: Share of the normal images that sets calibration and thresholds. Of fewer than ten images none are
            held out: each is scored by what is fitted on the others.
        held_out_images: Other normal images for calibration and thresholds, in place of a share.
        normal_list: Text file or COCO's JSON file that names the images of the folder ``normal`` that are used, by
            their paths within it; all if None.
        held_out_list: The same of ``held_out_images``.
        percentile: Percentile of held-out normal images that is the threshold.
        decide_by: Score that says whether an image is anomalous, ``'max'`` or ``'top'``.
        seed: Seed of everything that is drawn.
        batch_size: Images, or tiles, that a model sees at once.
        device: Device; a GPU if there is one.
        show_progress: Show bars where it takes more than a second.
        **settings: Of the features (``levels``, ``local``, ``out_indices``), of the errors of reconstruction
            (``masks``, ``repeats``, ``ratio``, ``grain``), and arguments of the methods, such as ``coreset``.

    Returns:
        The detector.

    Raises:
        UserError: If there are fewer normal images than needed, or something does not fit.
    """
    images = list_normal(normal, normal_list)
    calibrating = _list_held_out(held_out_images, held_out_list)
    split = split_normal(images, shots, held_out, calibrating, seed)
    tiling = None if tile is None else Tiling(tile, overlap)
    if tile is not None and size is None:
        size = max(UNIT, round(tile / UNIT) * UNIT)
    recipes = make_recipes(source, methods, reconstruct_with, encoder, size, settings, seed)
    device = device or find_device().type
    detector = Detector([recipe.build(device) for recipe in recipes], tiling, smooth, decide_by, percentile, batch_size)
    judged = detector.fit(split, show_progress)
    about = {
        'categories': [[one.category, len(one.paths)] for one in images],
        'fitted_images': sum(str(path) not in detector.skipped for path in split.fitted),
        'threshold_images': judged,
        'left_out_in_turn': bool(judged) and not split.held_out,
        'skipped': dict(detector.skipped),
        'shots': shots,
        'seed': seed,
        'version': __version__,
    }
    return AnomalyDetector(detector, recipes, about)


def _list_held_out(folders: str | Path | Sequence[str | Path], names: str | Path | None) -> list[Path]:
    """List images for calibration and thresholds that a user names; none if there is no folder of them."""
    if folders:
        return [path for one in list_normal(folders, names) for path in one.paths]
    if names is not None:
        raise UserError(f'A list of held-out images is given, {names}, and no folder of them: set held_out_images.')
    return []
