"""The page: where an image is given, and a tab for each thing that can be shown of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mae_toolkit.datasets import BrokenImageError
from mae_toolkit.demo import views
from mae_toolkit.demo.figures import write_problem, write_text
from mae_toolkit.demo.masks import AS_TRAINED, list_strategies, list_units
from mae_toolkit.demo.models import Models
from mae_toolkit.demo.uploads import GivenImage
from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.visualization.grid import resize
from mae_toolkit.visualization.retrieval import to_picture

if TYPE_CHECKING:
    import gradio

TITLE = 'What does the model see?'
SENTENCE = 'Hide parts of an image, and see what a masked autoencoder makes of the rest.'
BY_STRATEGY, BY_HAND = 'drawn by a strategy', 'painted by hand'
FAILED = 'This failed, and not because of the image: the terminal in which the server runs says why.'
WAITING = 'Give an image above.'
NO_IMAGE = 'No image yet: drop one in, a photo or any format that trainings read (TIFF with 16 bits, too).'
CANVAS = 640  # pixels of the longer side on which one paints
PAINT = '#d6336c'
KEEP = 3600  # seconds for which an image that was given is kept
EXAMPLE = Path(__file__).parents[1] / 'data' / 'tiny' / 'bccd' / 'images'
QUEUE: dict[str, Any] = {
    'concurrency_limit': 1,
    'concurrency_id': 'model',
    'api_visibility': 'private',
    'show_progress': 'minimal',
}


def build_page(models: Models) -> gradio.Blocks:
    """Build the page.

    Nothing that a visitor does changes anything that others see: an image lies in the state of their session.

    Args:
        models: What it computes with.
    """
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEEP // 6, KEEP)) as page:
        gr.HTML(_write_title(models), elem_id='title')
        image = gr.State(None, time_to_live=KEEP)
        with gr.Row(equal_height=True):
            file = gr.File(label='Your image', height=130, scale=2, min_width=280, elem_id='upload')
            with gr.Column(scale=1, min_width=220):
                status = gr.HTML(write_text(NO_IMAGE), elem_id='status')
                example = gr.Button('Take an example', size='sm', visible=_find_example(models) is not None)
        shown: list[tuple[Callable[..., Any], list[Any], Any]] = []
        with gr.Tabs():
            with gr.Tab('Reconstruction'):
                _add_reconstruction(models, image, shown)
            with gr.Tab('Features'):
                _add_features(models, image, shown)
            for label, is_there, show in _list_plain_tabs(models):
                if is_there:
                    with gr.Tab(label):
                        shown.append((_answer(models, show), [image], gr.HTML(write_text(WAITING))))
        if missing := _explain_missing(models):
            gr.HTML(missing, elem_id='missing')
        take, outputs = _make_taker(models), [image, status, file]
        given = file.upload(take, [image, file], outputs, **QUEUE)
        chosen = example.click(lambda old: take(old, _find_example(models)), [image], outputs, **QUEUE)
        for step in (given, chosen):
            for function, inputs, output in shown:
                step = step.then(function, inputs, output, **QUEUE)
    return page.queue(default_concurrency_limit=1, max_size=64)


def _add_reconstruction(models: Models, image: Any, shown: list[Any]) -> None:
    """Add what is hidden, and the reconstruction; or why there is none."""
    import gradio as gr

    model = models.autoencoder
    if model is None:
        text = f'Nothing can be reconstructed with this checkpoint. {models.no_autoencoder}'
        gr.HTML(write_problem(text) + write_text('The other tabs work: they need the encoder alone.'))
        return
    way = gr.Radio([BY_STRATEGY, BY_HAND], value=BY_STRATEGY, label='What is hidden', elem_id='way')
    with gr.Row() as drawn:
        settings = _add_settings(model)
    with gr.Column(visible=False) as painted:
        gr.HTML(write_text('Paint over what the model should not see; each cell that you touch is hidden.'))
        editor = gr.ImageEditor(
            label='Paint here',
            sources=(),
            transforms=(),
            buttons=[],
            layers=False,
            height=460,
            brush=gr.Brush(default_size=28, colors=[PAINT], color_mode='fixed'),
            canvas_size=(CANVAS, CANVAS),
            elem_id='paint',
        )
    result = gr.HTML(write_text(WAITING), elem_id='reconstruction')

    def show(models: Models, image: GivenImage, way: str, editor: Any, *settings: Any) -> str:
        if way == BY_HAND:
            return views.show_painted(models, image, _find_painted(editor))
        return views.show_drawn(models, image, *settings)

    def switch(way: str) -> tuple[Any, Any]:
        return gr.Row(visible=way == BY_STRATEGY), gr.Column(visible=way == BY_HAND)

    function, inputs = _answer(models, show), [image, way, editor, *settings]
    switched = way.change(switch, way, [drawn, painted], api_visibility='private', queue=False)
    switched = switched.then(_make_canvas, [image, way], editor, **QUEUE)  # which draws nothing while it is hidden
    switched.then(function, inputs, result, **QUEUE)
    strategy, ratio, unit, seed = settings
    triggers = [ratio.input, strategy.input, unit.input, seed.input, editor.input]
    gr.on(triggers, function, inputs, result, trigger_mode='always_last', **QUEUE)
    shown.append((_make_canvas, [image, way], editor))
    shown.append((function, inputs, result))


def _add_settings(model: MaskedAutoencoder) -> list[Any]:
    """Add the settings of what is drawn: strategy, ratio, unit and seed."""
    import gradio as gr

    units = [(f'{side} pixels', side) for side in list_units(model)]
    strategies = list(list_strategies(model).items())
    return [
        gr.Dropdown(strategies, value=AS_TRAINED, label='Strategy', min_width=260, elem_id='strategy'),
        gr.Slider(
            0.05, 0.95, model.masking.ratio, step=0.01, label='Share hidden', min_width=220, buttons=[], elem_id='ratio'
        ),
        gr.Dropdown(units, value=units[0][1], label='Side of a cell', min_width=130, elem_id='unit'),
        gr.Number(0, label='Seed', precision=0, min_width=110, elem_id='seed'),
    ]


def _add_features(models: Models, image: Any, shown: list[Any]) -> None:
    """Add the colors of the features, with a choice of the level where there are several."""
    import gradio as gr

    encoder = models.extractor.encoder
    count = len(encoder.out_channels)
    names = [f'level {i}, every {stride} pixels' for i, stride in enumerate(encoder.out_strides, 1)]
    choices = [(name, number) for number, name in enumerate(names, 1)]
    level = gr.Dropdown(choices, value=count, label='Features of', visible=count > 1, elem_id='level')
    result = gr.HTML(write_text(WAITING), elem_id='features')
    function = _answer(models, views.show_features)
    level.input(function, [image, level], result, trigger_mode='always_last', **QUEUE)
    shown.append((function, [image, level], result))


def _list_plain_tabs(models: Models) -> list[tuple[str, bool, Callable[..., str]]]:
    """List the tabs without settings: heading, whether there is one, and what it shows."""
    task = 'Objects' if models.predictor is None else models.predictor.task.capitalize()
    return [
        ('Nearest images', models.collection is not None, views.show_nearest),
        ('Anomalies', models.anomaly is not None or models.autoencoder is not None, views.show_anomalies),
        (task, models.predictor is not None, views.show_objects),
    ]


def _explain_missing(models: Models) -> str:
    """Say what has to be given for the tabs that are not there, as HTML; nothing if all are."""
    hints = []
    if models.collection is None:
        hints.append('the nearest images of a folder: give it by --images FOLDER')
    if models.anomaly is None:
        what = (
            'where an image is unusual'
            if models.autoencoder is None
            else 'anomalies by a detector that knows normal images'
        )
        hints.append(f'{what}: give one that tools/anomaly.py has fitted by --anomaly FILE')
    if models.predictor is None:
        hints.append('boxes, segments or classes: give the run of a detector by --detector RUN')
    if not hints:
        return ''
    items = ''.join(f'<li>{escape(hint)}</li>' for hint in hints)
    return f'<details><summary>What else this page can show</summary><ul>{items}</ul></details>'


def _make_taker(models: Models) -> Callable[..., tuple[Any, str, None]]:
    """Make the function that takes the image of a visitor; a file that is refused leaves the one before."""

    def take(old: GivenImage | None, path: str | Path) -> tuple[Any, str, None]:
        """Return the image, what is said of it, and an empty field for the next one."""
        try:
            image = models.reader.open(path)
        except UserError as error:
            return old, write_problem(str(error)), None
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return old, write_problem(FAILED), None
        height, width = image.size
        seen = f'the model sees {image.seen.shape[1]} x {image.seen.shape[0]}'
        return image, write_text(f'{image.name}: {width:,} x {height:,} pixels; {seen}. {image.note}'), None

    return take


def _answer(models: Models, show: Callable[..., str]) -> Callable[..., str]:
    """Make a function for events of what shows something: problems become sentences, and one runs at a time."""

    def answer(image: GivenImage | None, *settings: Any) -> str:
        if image is None:
            return write_text(WAITING)
        try:
            with models.computing:
                return show(models, image, *settings)
        except (UserError, BrokenImageError) as error:
            return write_problem(str(error))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return write_problem(FAILED)

    return answer


def _find_painted(value: Any) -> np.ndarray:
    """Find where something is painted in the layers of an editor: (I, J) bool."""
    layers = [layer for layer in (value or {}).get('layers', []) if layer is not None]
    if not layers:
        return np.zeros((1, 1), bool)
    return np.any([layer[..., 3] > 127 for layer in layers], axis=0)


def _make_canvas(image: GivenImage | None, way: str) -> Any:
    """Return what one paints on: the image, enlarged."""
    import gradio as gr

    if image is None or way != BY_HAND:
        return gr.skip()
    return {'background': resize(to_picture(image.seen), CANVAS), 'layers': [], 'composite': None}


def _find_example(models: Models) -> Path | None:
    """Return an image that the package has, if the model takes such images."""
    preparation = models.reader.transform.preparation
    if preparation.channels not in (1, 3) or preparation.dtype not in ('uint8', None):
        return None
    return min(EXAMPLE.glob('*'), default=None)


def _write_title(models: Models) -> str:
    name = type(models.extractor.encoder).__name__
    return f'<h1>{TITLE}</h1><p>{SENTENCE}</p><p class="what">{escape(models.name)}, encoder {escape(name)}</p>'
