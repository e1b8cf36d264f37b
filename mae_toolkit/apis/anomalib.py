"""Encoders in anomalib, for people whose data, training and reports are there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_toolkit.apis.anomaly_branches import load_reader
from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.export.anomalib import AnomalibBackbone, make_anomalib_transform, require_anomalib


def load_for_anomalib(
    source: str | Path,
    encoder: str | Mapping[str, Any] | None = None,
    *,
    levels: Sequence[int] | None = None,
    out_indices: Sequence[int] | None = None,
    size: int | tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Load a trained encoder as the arguments of a model of anomalib that takes a frozen backbone.

    Example::

        from anomalib.models import Patchcore

        model = Patchcore(**load_for_anomalib('runs/photos'), coreset_sampling_ratio=0.1)

    The backbone expects images that are normalized by the statistics of ImageNet, which is what all such models of
    anomalib do, and turns this into the normalization of its own training. It ends with the deepest level that is
    read. The pre-processor resizes whole images to the size of the training; anomalib's own would resize them to
    256 x 256.

    Args:
        source: Folder of a run, an exported folder, a checkpoint or weights, see
            :func:`~mae_toolkit.apis.load_encoder`.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        levels: Levels, counted from 1 for the finest; by default those of strides 8 and 16, or the last one.
        out_indices: Blocks of a ViT, from 0, that are the levels; by default the last.
        size: Pixels of the images, or height and width; as in the training if None.

    Returns:
        ``backbone``, a module; ``layers``, the names of its levels, such as ``'level2'``, the finest first; and
        ``pre_processor``.

    Raises:
        UserError: If anomalib is not installed, there is no such source or level, or the encoder was not trained on
            images of three channels of bytes.
    """
    require_anomalib()
    from anomalib.pre_processing import PreProcessor

    reader, transform = load_reader(source, encoder, levels, out_indices)
    preparation = resize_to(transform, size, whole=True).preparation
    backbone = AnomalibBackbone(reader.encoder, preparation)
    layers = [f'level{number}' for number in sorted(reader.levels)]  # anomalib resizes to the first one
    pre_processor = PreProcessor(make_anomalib_transform(preparation.size, preparation.interpolation))
    return {'backbone': backbone, 'layers': layers, 'pre_processor': pre_processor}
