"""What a trained encoder is worth on a labeled set, by probes of its frozen features."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mae_toolkit.apis.collections import check_outside
from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.apis.encoders import build_levels, load_encoder
from mae_toolkit.config import load_config
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import POOLINGS, Embeddings, FeatureExtractor, read_embeddings
from mae_toolkit.evaluation.embeddings.cache import hash_weights
from mae_toolkit.evaluation.probes.data import Probe
from mae_toolkit.evaluation.probes.dense import run_dense_knn
from mae_toolkit.evaluation.probes.inputs import ProbeInputs
from mae_toolkit.evaluation.probes.knn import run_knn
from mae_toolkit.evaluation.probes.maps import EncodedImages, encode_images
from mae_toolkit.evaluation.probes.report import MARK, Evaluation
from mae_toolkit.evaluation.probes.sets import LabeledSet, Task, drop_images, keep_fraction, read_set
from mae_toolkit.evaluation.probes.table import LABEL_FREE, OF_CLASSES, OF_MASKS, choose_probes, run_probes
from mae_toolkit.export.preparation import read_config
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.outputs import check_output_folder, is_own_picture
from mae_toolkit.planning.device import find_device
from mae_toolkit.printing import format_count, printable, some
from mae_toolkit.visualization.probes import draw_probes

JSON, TABLE, PICTURE = 'evaluation.json', 'evaluation.md', 'evaluation.png'
TOOL = 'evaluate'
POSITIONS = 16  # rows and columns to which larger maps are averaged for attentive probes
RANDOM = 'random'


def evaluate(
    source: str | Path | Config,
    on: str | Path,
    checkpoint: str | Path | None = None,
    *,
    images: str | Path | None = None,
    task: Task | None = None,
    probes: Sequence[str] | None = None,
    encoder: str | Mapping[str, Any] | None = None,
    levels: Sequence[int] | None = None,
    poolings: Sequence[str] = POOLINGS,
    size: int | tuple[int, int] | None = None,
    neighbors: Sequence[int] | None = None,
    label_fraction: float = 1.0,
    features: str | Path | None = None,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
) -> Evaluation:
    """Measure what the frozen features of an encoder are worth: every level and pooling by every probe.

    Example::

        found = evaluate('runs/photos', 'photos_with_classes/', out='runs/photos/evaluation')
        print(found.format())
        found.best  # level, pooling and probe of the best validation score, with its test score

    Images are encoded once. Settings of a probe are chosen on a part of the training images, levels, poolings and
    probes on validation images; the test images choose nothing.

    Args:
        source: Folder of a run, exported folder, checkpoint or weights, see :func:`load_encoder`; or a config, or its
            path.
        on: Class folders with or without splits, a CSV of files and classes, or a folder of images and masks.
        checkpoint: Weights for a config; ``'random'`` for an encoder that has learned nothing, to compare with.
        images: Folder of the images, if it is another one than ``on``.
        task: ``'classes'`` or ``'masks'``; found out by the folders if None.
        probes: Some of :data:`~mae_toolkit.evaluation.probes.PROBES`; all that go with the labels if None.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        levels: Levels, counted from 1 for the finest; all if None.
        poolings: What makes vectors of maps and tokens.
        size: Pixels of the images, or height and width; as in the training if None.
        neighbors: Numbers of neighbors that are tried; some from 1 to 200 if None.
        label_fraction: Fraction of the training images that are used, above 0 and up to 1: of each class, or of all
            images with masks. The seed alone chooses them, so that they are the same for all encoders.
        features: File of the vectors of these images by this encoder, which ``embed`` wrote: they are not encoded
            again. There are no maps in it, so that probes of maps are left out.
        batch_size: Images per batch.
        seed: Seed of splits, heads and clusters, and of the weights of an untrained encoder.
        device: Device of the encoder; a GPU if there is one.
        out: Folder for ``evaluation.json``, a table and a picture; nothing is written if None.
        force: Replace files there that this function did not write.

    Returns:
        The scores.

    Raises:
        UserError: If the set has no labels or a single class, the source does not fit, the fraction is out of range,
            there are fewer images than neighbors, the file of features is of another encoder, or maps do not fit into
            memory.
    """
    if out is not None:
        check_outside(out, [on] if images is None else [on, images])
        check_output_folder(out, (JSON, TABLE, PICTURE), force, is_own_file)
    labeled = keep_fraction(read_set(on, images, task, seed), label_fraction, seed)
    chosen = choose_probes_of(labeled, probes, features)
    chosen = {name: _set_neighbors(probe, neighbors) for name, probe in chosen.items()}
    loaded = _load(source, checkpoint, encoder, device, seed)
    transform = resize_to(loaded.transform, size, whole=labeled.task == 'masks')
    extractor = FeatureExtractor(loaded.encoder, transform, poolings, levels, batch_size)
    encoded = _encode(extractor, labeled, chosen, features)
    labeled = drop_images(labeled, encoded.embeddings.names)
    inputs = ProbeInputs(labeled, encoded, seed)
    rows = run_probes(chosen, inputs, encoded.embeddings.features, encoded.maps)
    about = {
        'source': ' '.join(str(part) for part in (_name(source), checkpoint) if part is not None),
        'encoder': hash_weights(loaded.encoder),
        'on': str(on),
        'task': labeled.task,
        'classes': labeled.classes,
        'preparation': transform.preparation.to_dict(),
        'seed': seed,
        'label_fraction': label_fraction,
    }
    notes = [*labeled.notes, *_note_left_out(encoded.embeddings, features)]
    counts = {name: len(part) for name, part in labeled.splits.items()} | {'held_out': int(inputs.held_out.sum())}
    found = Evaluation(rows, chosen, counts, about, notes, encoded.embeddings.skipped)
    if out is not None:
        write_evaluation(found, out)
    return found


def write_evaluation(found: Evaluation, out: str | Path) -> None:
    """Write scores into a folder: all of them as JSON, those of the test as a table and as a picture."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    title = f'{found.about.get("source", "")} on {found.about.get("on", "")}'
    draw_probes(*found.make_table(), picture, title, f'mae_toolkit {TOOL}')
    atomic_write(folder / PICTURE, picture.getvalue())
    atomic_write(folder / TABLE, f'<!-- {MARK} -->\n{found.format()}\n')
    atomic_write(folder / JSON, json.dumps(found.to_dict(), indent=1) + '\n')


def is_own_file(path: Path) -> bool:
    """Return whether :func:`write_evaluation` wrote a file."""
    if path.suffix == '.png':
        return is_own_picture(path, TOOL)
    with open(path, 'rb') as file:
        return MARK.encode() in file.read(200)


@dataclass(frozen=True)
class _Loaded:
    encoder: Encoder
    transform: EncoderTransform


def _name(source: str | Path | Config) -> str:
    """Return the path of a source, or of the file of a config."""
    return str(source.filename or 'a config') if isinstance(source, Config) else str(source)


def _load(
    source: str | Path | Config,
    checkpoint: str | Path | None,
    encoder: str | Mapping[str, Any] | None,
    device: str | None,
    seed: int,
) -> _Loaded:
    """Load an encoder from whatever says what it is, or from a config and a checkpoint."""
    device = device or find_device().type
    if checkpoint is None:
        if isinstance(source, Config) or Path(source).suffix == '.py':
            raise UserError(
                f'{printable(_name(source))} is a config, and its weights are missing: name the checkpoint behind '
                f'it, or {RANDOM} for an untrained encoder.'
            )
        return _Loaded(*load_encoder(source, encoder, device=device))
    if encoder is not None:
        raise UserError(
            f'{printable(_name(source))} is a config, which says what the encoder is: leave out the architecture '
            f'{printable(encoder)}.'
        )
    cfg = source if isinstance(source, Config) else load_config(source)
    config = cfg.model.get('encoder') or cfg.model.get('backbone')
    if config is None:
        raise UserError(
            f'{printable(_name(source))} has no model.encoder and no model.backbone: name a config that has one.'
        )
    transform = EncoderTransform(read_config(cfg))
    config = {key: value for key, value in config.to_dict().items() if key != 'init_cfg'}
    if str(checkpoint) != RANDOM:
        return _Loaded(load_encoder(checkpoint, config, device=device)[0], transform)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build_levels(config)
        built.init_weights()
    return _Loaded(built.to(device).eval(), transform)


def choose_probes_of(
    labeled: LabeledSet, names: Sequence[str] | None = None, features: str | Path | None = None
) -> dict[str, Probe]:
    """Choose the probes that go with the labels of a set.

    Args:
        labeled: The set.
        names: Names of probes; all that go with the labels if None.
        features: File of vectors, if maps are not at hand.

    Raises:
        UserError: If one is unknown, goes with other labels, reads maps, or tells classes apart where there is one.
    """
    known = OF_CLASSES if labeled.task == 'classes' else OF_MASKS
    what = 'class labels' if labeled.task == 'classes' else 'masks'
    chosen = choose_probes(names, known, what)
    if features is not None:
        if names is not None and (maps := [name for name, probe in chosen.items() if probe.takes == 'maps']):
            raise UserError(f'{maps[0]} reads maps, and a file of features holds vectors: leave out --features.')
        chosen = {name: probe for name, probe in chosen.items() if probe.takes == 'vectors'}
        if not chosen:
            raise UserError(f'Probes of {what} read maps, and a file of features holds vectors: leave out --features.')
    if len(labeled.classes) < 2 and (measured := [name for name in chosen if name not in LABEL_FREE]):
        free = [name for name in LABEL_FREE if name in known]
        raise UserError(
            f'{printable(labeled.root)} has {format_count(len(labeled.classes), "class", "classes")} '
            f'({some(labeled.classes)}), and {measured[0]} tells classes apart: give two or more, or measure '
            f'--probes {" ".join(free)} alone.'
        )
    return chosen


def _set_neighbors(probe: Probe, neighbors: Sequence[int] | None) -> Probe:
    if neighbors is None or probe.run not in (run_knn, run_dense_knn):
        return probe
    return replace(probe, run=partial(probe.run, neighbors=sorted(neighbors)))


def _encode(
    extractor: FeatureExtractor, labeled: LabeledSet, probes: Mapping[str, Probe], features: str | Path | None
) -> EncodedImages:
    """Encode the images of a set once, or read their vectors."""
    if features is not None:
        return EncodedImages(_read_features(features, extractor, labeled), {}, (0, 0))
    takes = {probe.takes for probe in probes.values()}
    most = POSITIONS if labeled.task == 'classes' else None
    encoded = encode_images(extractor, labeled.images, labeled.names, 'maps' in takes, most)
    return encoded


def _read_features(path: str | Path, extractor: FeatureExtractor, labeled: LabeledSet) -> Embeddings:
    """Read vectors of the images of a set, and refuse those of another encoder."""
    found = read_embeddings(path)
    made, own = found.about.get('key', {}).get('encoder', 'unknown'), hash_weights(extractor.encoder)
    if made != own:
        raise UserError(
            f'{printable(path)} was made by an encoder of other weights ({made}, and this one has {own}): make it with '
            'mae-toolkit embed of this encoder, or leave out --features.'
        )
    rows = {name: row for row, name in enumerate(found.names)}
    missing = [name for name in labeled.names if name not in rows and name not in found.skipped]
    if missing:
        raise UserError(
            f'{printable(path)} lacks {len(missing)} of the {format_count(len(labeled.names), "image")} of '
            f'{printable(labeled.root)} ({some([printable(name) for name in missing], 2)}): make it with mae-toolkit '
            'embed of this folder.'
        )
    return found.select([rows[name] for name in labeled.names if name in rows])


def _note_left_out(embeddings: Embeddings, features: str | Path | None) -> list[str]:
    notes = []
    if embeddings.skipped:
        names = [printable(name) for name in embeddings.skipped]
        notes.append(f'{format_count(len(names), "image")} cannot be read and are left out: {some(names, 3)}')
    if features is not None:
        notes.append(f'vectors are those of {printable(features)}, so that probes of maps are left out')
    return notes
