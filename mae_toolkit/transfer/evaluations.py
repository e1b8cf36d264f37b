"""Runs that evaluate the frozen encoder by probes, in place of a training."""

import copy
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from threadpoolctl import threadpool_limits

from mae_toolkit.apis.encoders import build_levels, load_encoder
from mae_toolkit.apis.evaluate import RANDOM, choose_probes_of, evaluate
from mae_toolkit.errors import wrap_build_error
from mae_toolkit.evaluation.embeddings import POOLINGS, FeatureExtractor
from mae_toolkit.evaluation.probes.report import Evaluation
from mae_toolkit.evaluation.probes.sets import read_set
from mae_toolkit.evaluation.probes.table import LABEL_FREE, Row
from mae_toolkit.export.preparation import Preparation, find_default_preparation, read_config
from mae_toolkit.registry import SCOPE
from mae_toolkit.transfer.hashes import digest
from mae_toolkit.transfer.run_records import RunRecord

PLACES = ('images',)  # arguments that say where things are


def make_config(encoder: Mapping[str, Any], pretraining: Config | None) -> Config:
    """Make the config of a run that evaluates a frozen encoder: what :func:`evaluate` reads of one of pretraining.

    The rest of the pretraining is left out, as it does not decide what weights are worth that are there.

    Args:
        encoder: Config of the encoder.
        pretraining: The config that has it, which says how images are prepared; if None, timm says it for the
            architecture.
    """
    preparation = find_default_preparation(encoder.get('arch', '')) if pretraining is None else read_config(pretraining)
    plain = {key: value for key, value in copy.deepcopy(dict(encoder)).items() if key != 'init_cfg'}
    preprocessor = dict(mean=list(preparation.mean), std=list(preparation.std))
    cfg: dict[str, Any] = dict(
        default_scope=SCOPE,
        model=dict(data_preprocessor=preprocessor, encoder=plain),
        val_dataloader=dict(dataset=dict(pipeline=list_steps(preparation))),
    )
    if pretraining is not None and pretraining.get('custom_imports'):
        cfg['custom_imports'] = pretraining.custom_imports
        cfg['imported_from'] = str(Path(pretraining.filename).resolve().parent)
    return Config(cfg)


def hash_evaluation(cfg: Config, arguments: Mapping[str, Any], label_fraction: float, seed: int) -> str:
    """Return the hash of what decides the numbers of an evaluation beside weights and data.

    Args:
        cfg: What :func:`make_config` returns.
        arguments: Arguments of :func:`evaluate`.
        label_fraction: Fraction of the training images that probes learn from.
        seed: Seed of everything random.
    """
    kept = {key: value for key, value in arguments.items() if key not in PLACES}
    encoder, preparation = cfg.model.encoder.to_dict(), read_config(cfg).to_dict()
    return digest(['evaluate', encoder, preparation, {'poolings': POOLINGS} | kept, label_fraction, seed])


def check_set(record: RunRecord) -> None:
    """Refuse a labeled set that is damaged, and probes that do not go with its labels.

    Raises:
        UserError: In one sentence.
    """
    options = record.options
    labeled = read_set(record.config, options.get('images'), options.get('task'), record.seed)
    choose_probes_of(labeled, options['probes'])


def check_encoder(cfg: Config, arguments: Mapping[str, Any]) -> None:
    """Build the encoder of a run without memory for its weights, and look for the levels that are to be read.

    Raises:
        UserError: If it cannot be built, or has no such level.
    """
    init_default_scope(SCOPE)
    with wrap_build_error('the encoder'), torch.device('meta'):
        built = build_levels(cfg.model.encoder.to_dict())
    FeatureExtractor(built, lambda _: torch.empty(0), arguments.get('poolings', POOLINGS), arguments.get('levels'))


def check_weights(cfg: Config, path: str) -> None:
    """Load weights into the encoder of a run.

    Raises:
        UserError: If they do not fit.
    """
    init_default_scope(SCOPE)
    load_encoder(path, cfg.model.encoder.to_dict())


def run_evaluation(config: Path, record: RunRecord, checkpoint: str | None) -> dict[str, dict]:
    """Evaluate the encoder of a run, and write the whole evaluation beside the config.

    Args:
        config: File of what :func:`make_config` returned.
        record: Instructions for the run.
        checkpoint: Weights of the encoder; random ones if None.

    Returns:
        ``metrics``: scores on the test split by names such as ``'retrieval/map'``; and ``chosen``: the level and
        pooling of each probe.
    """
    cfg = Config.fromfile(config, import_custom_modules=False)
    if 'imported_from' in cfg:
        sys.path.append(cfg.imported_from)
        import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(SCOPE)
    with threadpool_limits(torch.get_num_threads()):  # those of scikit-learn, which a fork would have from its parent
        found = evaluate(
            cfg,
            record.config,
            checkpoint or RANDOM,
            **record.options,
            label_fraction=record.label_fraction,
            seed=record.seed,
            out=config.parent,
            force=True,
        )
    rows = choose_rows(found)
    metrics = {
        f'{name}/{score}': float(value) for name, row in rows.items() for score, value in row.result.test.items()
    }
    return {'metrics': metrics, 'chosen': {name: row.features for name, row in rows.items()}}


def choose_rows(found: Evaluation) -> dict[str, Row]:
    """Choose the level and pooling of each probe: the best on validation images.

    An effective rank is not better for being greater where there are more channels: it is that of the coarsest level,
    of its mean if that was pooled.
    """
    rows = dict(found.best_of_each)
    for name in LABEL_FREE:
        own = [row for row in found.rows if row.probe == name]
        if own:
            rows[name] = max(own, key=lambda row: (_level_of(row.features), row.features.endswith('.mean')))
    return rows


def _level_of(features: str) -> int:
    """Return the level of ``'level4.mean'``."""
    return int(re.match(r'level(\d+)\.', features)[1])  # type: ignore[index]  # all features are named like that


def list_steps(preparation: Preparation) -> list[dict[str, Any]]:
    """List the steps of a pipeline by which images are prepared so."""
    size, interpolation = list(preparation.size), preparation.interpolation
    if preparation.short_side is None:
        return [dict(type='Resize', size=size, interpolation=interpolation)]
    resize = dict(type='Resize', size=preparation.short_side, interpolation=interpolation)
    return [resize, dict(type='CenterCrop', size=size)]
