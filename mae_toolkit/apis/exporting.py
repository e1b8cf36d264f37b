"""Write the encoder of a checkpoint for other programs."""

from pathlib import Path

from mmengine.config import Config

from mae_toolkit.export import export


def export_encoder(
    checkpoint: str | Path,
    out: str | Path,
    format: str = 'timm',
    cfg: Config | None = None,
    size: tuple[int, int] | None = None,
    dynamic: str = 'batch',
    half: bool = False,
) -> list[str]:
    """Write the encoder of a checkpoint to a file, and compare it with our own if the config is given.

    Example::

        export_encoder('epoch_800.pth', 'vit.safetensors', cfg=load_config('config.py'))

    Args:
        checkpoint: A training checkpoint.
        out: The file to write.
        format: Whose names the weights get, or ``'torch-export'`` or ``'onnx'`` for a graph; one of
            :data:`mae_toolkit.export.export.FORMATS`.
        cfg: Config of the pretraining; a graph needs it.
        size: Height and width in pixels of the images on which the result is compared, and of a graph; by default those
            of the encoder's positions, or 224.
        dynamic: What may differ when a graph runs: ``'none'``, ``'batch'`` or ``'size'``.
        half: Write weights in float16; not for a graph.

    Returns:
        Lines that say what was written, and how far its outputs are from ours.

    Raises:
        UserError: If the suffix or the weights do not fit the format, or a weight is too large for float16.
    """
    return list(export(checkpoint, out, format, cfg, size, dynamic, half))
