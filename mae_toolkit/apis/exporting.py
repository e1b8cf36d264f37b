"""Write the encoder of a run or a checkpoint for other programs."""

from pathlib import Path

from mmengine.config import Config

from mae_toolkit.export import export


def export_encoder(
    source: str | Path,
    out: str | Path,
    format: str = 'timm',
    cfg: Config | None = None,
    size: tuple[int, int] | None = None,
    dynamic: str = 'batch',
    half: bool = False,
    license: str | None = None,
) -> list[str]:
    """Write the encoder of a run or a checkpoint, and compare it with our own.

    Example::

        export_encoder('runs/photos', 'encoder')  # a folder: timm.create_model('local-dir:encoder', pretrained=True)
        export_encoder('epoch_800.pth', 'vit.safetensors', cfg=load_config('config.py'))

    Args:
        source: Folder of a run, or a training checkpoint.
        out: The folder to write, which describes itself; or a file, by its suffix.
        format: Whose names the weights get, or ``'torch-export'`` or ``'onnx'`` for a graph; one of
            :data:`mae_toolkit.export.export.FORMATS`.
        cfg: Config of the pretraining; by default that of the run, or the one that the checkpoint holds. With a
            checkpoint and a file as ``out`` it must be given to compare the result, and for a graph.
        size: Height and width in pixels of the images on which the result is compared, and of a graph; by default those
            of the encoder's positions, or 224.
        dynamic: What may differ when a graph runs: ``'none'``, ``'batch'`` or ``'size'``.
        half: Write weights in float16; not for a graph.
        license: License of the weights, for the model card; by default that of the weights it began with, where known.

    Returns:
        Lines that say what was written, and how far its outputs are from ours.

    Raises:
        UserError: If the suffix or the weights do not fit the format, or a weight is too large for float16.
    """
    return list(export(source, out, format, cfg, size, dynamic, half, license))
