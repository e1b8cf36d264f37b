"""Checks of the environment in which the package is imported."""

from importlib import metadata

# Import name: (the fork that we run on, the distributions that install into the same folder).
FORKS = {
    'mmengine': ('onedl-mmengine', ('mmengine', 'mmengine-lite')),
    'mmcv': ('onedl-mmcv', ('mmcv', 'mmcv-full', 'mmcv-lite')),
    'mmdet': ('onedl-mmdetection', ('mmdet',)),
    'mmseg': ('onedl-mmsegmentation', ('mmsegmentation',)),
}


def check_conflicting_packages() -> None:
    """Refuse an OpenMMLab package that is installed beside its fork: both write the same folder, and either may win.

    Only the metadata of installed packages is read; nothing is imported.

    Raises:
        ImportError: With the pip command that repairs the installation.
    """
    for fork, upstreams in FORKS.values():
        rivals = [name for name in upstreams if _find_version(name)]
        if rivals and _find_version(fork):
            found = ' and '.join(f'{name} {_find_version(name)}' for name in (*rivals, fork))
            raise ImportError(
                f'{found} are installed together and overwrite each other: run '
                f'"pip uninstall -y {" ".join(rivals)} {fork} && pip install --no-cache-dir {fork}".'
            )


def _find_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
