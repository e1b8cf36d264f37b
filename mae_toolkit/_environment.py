"""Refuses an OpenMMLab package and its fork side by side: both write the same folders, and either may win."""

from importlib import metadata

# Import name: (the fork that we run on, the distributions that share its folder).
FORKS = {
    'mmengine': ('onedl-mmengine', ('mmengine', 'mmengine-lite')),
    'mmcv': ('onedl-mmcv', ('mmcv', 'mmcv-full', 'mmcv-lite')),
    'mmdet': ('onedl-mmdetection', ('mmdet',)),
    'mmseg': ('onedl-mmsegmentation', ('mmsegmentation',)),
}


def check_conflicting_packages():
    """Check what is installed; nothing is imported.

    Raises:
        ImportError: If a fork and its upstream are installed together, with the pip command that mends it.
    """
    for fork, upstreams in FORKS.values():
        rivals = [name for name in upstreams if _version(name)]
        if rivals and _version(fork):
            found = ' and '.join(f'{name} {_version(name)}' for name in (*rivals, fork))
            raise ImportError(
                f'{found} are installed together and overwrite each other: run '
                f'"pip uninstall -y {" ".join(rivals)} {fork} && pip install --no-cache-dir {fork}".'
            )


def _version(distribution):
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
