"""What the tabs of the page show of an image, as HTML."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.apis.anomaly_files import find_hottest
from mae_toolkit.apis.feature_pictures import color_components, to_shown
from mae_toolkit.apis.reconstructed_image import ReconstructedImage
from mae_toolkit.apis.similar import match_images
from mae_toolkit.demo.figures import Figure, write_color_bar, write_figures, write_numbers, write_text
from mae_toolkit.demo.masks import draw_mask, snap_to_cells
from mae_toolkit.demo.models import Models
from mae_toolkit.demo.uploads import GivenImage
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.errors import ErrorReader
from mae_toolkit.evaluation.embeddings.extractor import EncodedBatch
from mae_toolkit.randomness import MOST_SEED
from mae_toolkit.visualization.heat_map import draw_heat_map
from mae_toolkit.visualization.reconstruction import Reconstruction, pad_to_unit, reconstruct
from mae_toolkit.visualization.retrieval import overlay_heat, to_picture

ABOUT = {
    'masked': 'what the model sees: hidden cells are gray',
    'prediction': 'what the model makes of the hidden cells',
    'pasted': 'prediction where hidden, image elsewhere',
    'error': 'error',
    'pasted, with patch statistics that the model does not know': (
        'pasted, with the true mean and contrast of each hidden patch, which the model does not know'
    ),
}
COUNT = 6  # nearest images that are shown
SMALL, SIDE = 640, 1024  # pixels of the longer side of a picture on which is written


def show_drawn(models: Models, image: GivenImage, strategy: str, ratio: float, unit: int, seed: int | None) -> str:
    """Show the reconstruction of what a strategy hides; see :func:`~mae_toolkit.demo.masks.draw_mask`."""
    if seed is None or not 0 <= seed <= MOST_SEED:
        raise UserError(f'Give a seed: a whole number from 0 to {MOST_SEED:,}.')
    model = models.autoencoder
    assert model is not None
    imgs = _normalize(models, image)
    return _show_reconstruction(models, image, imgs, draw_mask(model, imgs, strategy, ratio, unit, seed))


def show_painted(models: Models, image: GivenImage, painted: np.ndarray) -> str:
    """Show the reconstruction of what is painted; see :func:`~mae_toolkit.demo.masks.snap_to_cells`."""
    model = models.autoencoder
    assert model is not None
    imgs = _normalize(models, image)
    mask = snap_to_cells(painted, imgs.shape[-2:], model.masking.unit)
    return _show_reconstruction(models, image, imgs, mask.to(imgs.device))


def show_features(models: Models, image: GivenImage, level: int) -> str:
    """Show the three main components of the features of a level, counted from 1, as colors."""
    extractor = models.extractor
    device = next(extractor.encoder.parameters()).device
    imgs = models.reader.transform(image.seen, resize=False)[None].to(device)  # the whole image
    with torch.inference_mode():
        features = extractor.encoder.encode(imgs)
    (colors,) = color_components([features.maps[level - 1][0].float().cpu()])
    rows, columns = colors.shape[:2]
    text = (
        'Places of the same color have similar features: red, green and blue are the three directions in which the '
        'features of this image differ most. Colors of two images cannot be compared.'
    )
    figures = [
        Figure(to_shown(extractor, imgs[0]), 'your image'),
        Figure(colors, f'features of level {level}: {rows} x {columns} positions'),
    ]
    return write_figures(figures, 'two') + write_text(text)


def show_nearest(models: Models, image: GivenImage) -> str:
    """Show the nearest images of the folder, and the regions that make them so."""
    found = models.collection
    assert found is not None
    query = _encode(models, image)
    shown = to_shown(models.extractor, query.imgs[0])
    matches = match_images(found, query, range(len(found)), COUNT)
    values = np.concatenate([part.ravel() for one, _ in matches for part in (one.query_regions, one.regions)])
    low, high = float(values.min()), float(values.max())
    rows = []
    for number, (match, picture) in enumerate(matches, 1):
        name = f'{number}, cosine {match.cosine:.4f}: {match.name}'
        heats = overlay_heat(shown, match.query_regions, low, high), overlay_heat(picture, match.regions, low, high)
        figures = [
            Figure(picture, name, f'nearest image {name}'),
            Figure(heats[0], 'your image, where it is like that one'),
            Figure(heats[1], 'that image, where it is like yours'),
        ]
        rows.append(write_figures(figures, 'three'))
    bar = write_color_bar('plasma', f'{low:.2f}', f'{high:.2f}', 'cosine of a patch to the best of the other image')
    first = write_figures([Figure(shown, 'your image, as the encoder sees it')], 'one')
    return f'{first}{bar}<div class="matches">{"".join(rows)}</div>'


def show_anomalies(models: Models, image: GivenImage) -> str:
    """Show where an image is unusual: by the detector or, without one, where it is hard to reconstruct."""
    if models.anomaly is None:
        return _show_hard(models, image)
    array = models.reader.read(image)
    (found,) = models.anomaly([array], show_progress=False)
    detector = models.anomaly.detector
    limit, score = detector.thresholds.get(detector.decide_by), found.scores[detector.decide_by]
    _check_finite(image, np.array(score))
    numbers = [('score, in standard deviations above normal images', f'{score:.2f}')]
    if limit is not None:
        numbers = [('verdict', 'unusual' if found.is_anomalous else 'normal'), *numbers, ('threshold', f'{limit:.2f}')]
    picture = models.anomaly.draw(array, found, _choose_side(array))
    figures = [Figure(to_picture(array), 'your image'), Figure(picture, 'where it is unlike normal images')]
    bar = write_color_bar(
        'inferno', '0', f'{find_hottest(detector, found):.2f} or more', 'standard deviations above normal images'
    )
    return write_numbers(numbers) + write_figures(figures, 'two smooth') + bar


def show_objects(models: Models, image: GivenImage) -> str:
    """Show what the detector, segmenter or classifier finds."""
    predictor = models.predictor
    assert predictor is not None
    array = models.reader.read(image)
    result = predictor(array)
    picture = predictor.draw(array, result, _choose_side(array))
    return write_figures([Figure(picture, f'{predictor.task} by {type(predictor.model).__name__}')], 'one large smooth')


def _normalize(models: Models, image: GivenImage) -> Tensor:
    """Make the batch (1, C, H, W) of an image that the masked autoencoder takes."""
    model = models.autoencoder
    assert model is not None
    pixels = torch.from_numpy(image.seen.transpose(2, 0, 1).copy())
    with torch.no_grad():
        return model.data_preprocessor({'imgs': pixels[None]})['imgs']


def _show_reconstruction(models: Models, image: GivenImage, imgs: Tensor, mask: Tensor) -> str:
    model = models.autoencoder
    assert model is not None
    result = reconstruct(model, imgs, mask).apply(Tensor.cpu)
    _check_finite(image, result.predicted.float().numpy())
    preprocessor: Any = copy.deepcopy(model.data_preprocessor).cpu()
    pictures = ReconstructedImage(0, image.name, image.size, result, preprocessor).columns()
    pictures['error'] = pictures.pop('error')  # the last
    figures = [Figure(pictures.pop('original'), 'your image')]
    figures += [Figure(picture, ABOUT.get(name, name)) for name, picture in pictures.items()]
    bar = write_color_bar('magma', '0', '2 or more', 'mean absolute error, in standard deviations of the training')
    return write_numbers(_count_error(result, mask)) + write_figures(figures) + bar


def _count_error(result: Reconstruction, mask: Tensor) -> list[tuple[str, str]]:
    """Measure the error of the hidden pixels, beside that of the mean color of the visible ones."""
    hidden = result.hidden.expand_as(result.original)
    original = result.original.float()
    visible = (original * ~hidden).sum((2, 3), keepdim=True) / (~hidden).sum((2, 3), keepdim=True)
    error, guess = ((x - original).abs()[hidden].mean().item() for x in (result.predicted.float(), visible))
    cells, count = mask.numel(), int(mask.sum())
    return [
        ('mean absolute error where hidden, in standard deviations of the training', f'{error:.3f}'),
        ('the same if hidden cells had the mean color of the visible ones', f'{guess:.3f}'),
        ('cells hidden', f'{count} of {cells} ({count / cells:.0%})'),
    ]


def _show_hard(models: Models, image: GivenImage) -> str:
    """Show how large the errors are when each cell is hidden in turn."""
    model = models.autoencoder
    assert model is not None
    imgs = _normalize(models, image)
    height, width = imgs.shape[-2:]
    padded = pad_to_unit(imgs, model.masking.unit)
    error_map = ErrorReader(model)(padded)  # (1, 1, h, w), by the loss of the training
    scale = error_map.shape[-1] / padded.shape[-1]
    errors = error_map[0, 0, : max(1, round(height * scale)), : max(1, round(width * scale))].float().cpu().numpy()
    _check_finite(image, errors)
    hottest = float(np.quantile(errors, 0.99))
    picture = to_picture(image.seen)
    drawn = draw_heat_map(picture, errors, [], hottest, 'errors', None, SMALL)
    drawn = drawn.crop((0, 0, drawn.width, round(drawn.width * height / width)))  # a color bar stands below
    text = (
        'Each cell was hidden several times: bright parts are hard to reconstruct from the rest, as are defects, but '
        'also edges and fine texture. A detector that has seen normal images tells them apart: fit one by '
        'tools/anomaly.py, and give it by --anomaly FILE.'
    )
    numbers = [('mean error, by the loss of the training', f'{errors.mean():.3f}')]
    figures = [Figure(picture, 'your image'), Figure(drawn, 'hard to reconstruct')]
    bar = write_color_bar('inferno', '0', f'{hottest:.2f} or more', 'error, by the loss of the training')
    return write_numbers(numbers) + write_figures(figures, 'two') + bar + write_text(text)


def _check_finite(image: GivenImage, values: np.ndarray) -> None:
    """Refuse to show what a model cannot say of an image."""
    if not np.isfinite(values).all():
        raise UserError(f'{image.name}: what the model says of it is not finite.')


def _encode(models: Models, image: GivenImage) -> EncodedBatch:
    array = models.reader.read(image)
    found = next(models.extractor.encode([array], show_progress=False))
    for x in found.features.maps:
        _check_finite(image, x.float().cpu().numpy())
    return found


def _choose_side(array: np.ndarray) -> int | None:
    """Return the longer side of a picture on which is written: a small image is enlarged, a large one reduced."""
    return min(SIDE, max(SMALL, *array.shape[:2]))
