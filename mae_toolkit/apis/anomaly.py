"""A detector of anomalies for scripts and notebooks: load it, score images, draw, write, evaluate, save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mae_toolkit.apis.anomaly_branches import BranchRecipe, describe_branch
from mae_toolkit.apis.anomaly_files import draw_anomaly, evaluate_anomalies, write_anomalies
from mae_toolkit.datasets.any_image import ImageLike
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.detector import Detector
from mae_toolkit.evaluation.anomaly.file import check_detector_file, read_detector, write_detector
from mae_toolkit.evaluation.anomaly.methods import check_method
from mae_toolkit.evaluation.anomaly.scoring import Anomaly
from mae_toolkit.evaluation.anomaly.tiles import Tiling
from mae_toolkit.evaluation.embeddings.reading import Images, list_items, refuse_none_read
from mae_toolkit.planning.device import find_device
from mae_toolkit.printing import format_count

KEPT = ('smooth', 'decide_by', 'percentile', 'batch_size')


class AnomalyDetector:
    """Find what normal images never look like.

    Example::

        detector = fit_anomaly_detector('runs/photos', 'parts/normal')
        for found in detector('parts/new'):  # a folder, a file, an array, a picture of Pillow, or several
            found.scores['max'], found.is_anomalous, found.boxes, found.map  # an array (h, w)
        detector.draw('parts/new/1.png')  # a picture of Pillow
        detector.write('parts/new', 'found')  # heat maps, boxes and numbers
        detector.save('parts.safetensors')  # for load_anomaly_detector

    Made by :func:`~mae_toolkit.apis.fit_anomaly_detector` and :func:`load_anomaly_detector`.

    Attributes:
        detector: What computes; see :class:`~mae_toolkit.evaluation.anomaly.Detector`.
        recipes: The methods, and the models that feed them.
        about: What it was fitted on.
    """

    def __init__(self, detector: Detector, recipes: Sequence[BranchRecipe], about: Mapping[str, Any]) -> None:
        self.detector, self.recipes, self.about = detector, list(recipes), dict(about)

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write the detector into a file ending in .safetensors, without the encoder, whose hash it keeps.

        Raises:
            UserError: If the file is there and no detector.
        """
        check_detector_file(path, force)
        own = self.detector
        branches = [
            {
                'recipe': recipe.to_dict(),
                'depends_on': describe_branch(branch),
                'offset': branch.offset,
                'scale': branch.scale,
            }
            for recipe, branch in zip(self.recipes, own.branches, strict=True)
        ]
        tiling = None if own.tiling is None else {'side': own.tiling.side, 'overlap': own.tiling.overlap}
        about = {'branches': branches, 'tiling': tiling, 'thresholds': dict(own.thresholds), 'fitted_on': self.about}
        about |= {name: getattr(own, name) for name in KEPT}
        write_detector(path, about, [branch.method.state() for branch in own.branches])

    def __call__(self, images: Images, show_progress: bool = True) -> list[Anomaly]:
        """Score images, in batches.

        Args:
            images: A folder, a file, a pattern, an array (H, W) or (H, W, C), a picture of Pillow, or several of them.
            show_progress: Show a bar where it takes more than a second.

        Returns:
            What was found in each image that could be read; the others are in :attr:`skipped`.

        Raises:
            UserError: If there are no images, none can be read, or one has other channels than the encoder takes.
        """
        found = list(self.iterate(images, show_progress))
        if not found:
            refuse_none_read(len(self.skipped), self.skipped)
        return found

    def iterate(self, images: Images, show_progress: bool = True) -> Iterator[Anomaly]:
        """Score images one after the other, for more than fit into memory; see :meth:`__call__`."""
        items, names = list_items(images)
        return self.detector.score(items, names, show_progress)

    @property
    def skipped(self) -> dict[str, str]:
        """Return the reasons by name, of the images that the last call could not read."""
        return self.detector.skipped

    def draw(self, image: ImageLike, found: Anomaly | None = None, side: int | None = None) -> Image.Image:
        """Draw the map and the boxes over an image.

        Args:
            image: The image.
            found: What was found in it; it is scored if None.
            side: Pixels of the longer side; if None, a small picture is enlarged.

        Raises:
            UserError: If it is a folder or pattern of several images, or the image cannot be read.
        """
        if found is None:
            items, _ = list_items(image)  # type: ignore[arg-type]
            if len(items) > 1:
                raise UserError(f'draw() shows one image, not {format_count(len(items), "image")}: write() draws each.')
            (image,) = items
            (found,) = self(items, show_progress=False)
        return draw_anomaly(self.detector, image, found, side)

    def write(self, images: Images, out: str | Path, side: int | None = None, force: bool = False) -> dict[str, Any]:
        """Score images, and write pictures, maps and numbers; see :func:`~.anomaly_files.write_anomalies`.

        Args:
            images: A folder, a file, a pattern, an array, a picture of Pillow, or several of them.
            out: The folder; created if needed.
            side: Pixels of the longer side of each picture; if None, a small picture is enlarged.
            force: Replace files in the folder that were not written by this method.
        """
        return write_anomalies(self.detector, images, out, side, force)

    def evaluate(
        self,
        folder: str | Path,
        out: str | Path | None = None,
        force: bool = False,
        *,
        boxes: str | Path | None = None,
        normal: str | Path | None = None,
        normal_list: str | Path | None = None,
    ) -> dict[str, Any]:
        """Measure how well defects are found, by masks or by boxes; see :func:`~.anomaly_files.evaluate_anomalies`."""
        tested = dict(boxes=boxes, normal=normal, normal_list=normal_list)
        return evaluate_anomalies(self.detector, folder, out, force, **tested)


def load_anomaly_detector(
    path: str | Path,
    source: str | Path | None = None,
    reconstruct_with: str | Path | None = None,
    device: str | None = None,
) -> AnomalyDetector:
    """Load a detector, and the encoder that it was fitted with.

    Args:
        path: What :meth:`AnomalyDetector.save` has written.
        source: The encoder, if it is not where it was.
        reconstruct_with: Run of the masked autoencoder, if it is neither there nor the source.
        device: Device; a GPU if there is one.

    Returns:
        The detector.

    Raises:
        UserError: If there is no such file, the encoder has other weights or prepares images in another way, or a run
            is named for a detector that does not reconstruct.
    """
    about, states = read_detector(path)
    if reconstruct_with is not None and not any(
        BranchRecipe(**saved['recipe']).reads_errors for saved in about['branches']
    ):
        raise UserError(f'A run to reconstruct with is given, and {path} does not reconstruct: leave it out.')
    device = device or find_device().type
    recipes, branches = [], []
    for saved, state in zip(about.pop('branches'), states, strict=True):
        recipe = BranchRecipe(**saved['recipe'])
        check_method(recipe.method)  # it may be one of a user's own
        moved = (reconstruct_with or source) if recipe.reads_errors else source
        if moved is not None:
            recipe = BranchRecipe(**(saved['recipe'] | {'source': str(moved)}))
        branch = recipe.build(device)
        _check_same(path, recipe, saved['depends_on'], describe_branch(branch))
        branch.method.restore({name: tensor.to(device) for name, tensor in state.items()})
        branch.offset, branch.scale = saved['offset'], saved['scale']
        recipes.append(recipe)
        branches.append(branch)
    tiling = None if about['tiling'] is None else Tiling(**about['tiling'])
    kept = {name: about[name] for name in KEPT}
    return AnomalyDetector(
        Detector(branches, tiling, thresholds=about['thresholds'], **kept), recipes, about['fitted_on']
    )


def _check_same(path: str | Path, recipe: BranchRecipe, saved: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse an encoder that is not the one that a detector was fitted with."""
    if saved['weights'] != found['weights']:
        raise UserError(
            f'{path} was fitted with an encoder of the hash {saved["weights"]}, and {recipe.source} has '
            f'{found["weights"]}: name the encoder that it was fitted with, or fit it again.'
        )
    if saved['preparation'] != found['preparation']:
        raise UserError(
            f'{path} was fitted on images prepared as {saved["preparation"]}, and {recipe.source} prepares them as '
            f'{found["preparation"]}: name the encoder that it was fitted with, or fit it again.'
        )
