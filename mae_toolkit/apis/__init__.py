"""What the tools do, as functions and a few classes for scripts and notebooks.

A pretraining, and a detector on what it learned::

    from mae_toolkit.apis import fit_encoder, load_config, load_predictor, train

    pretraining = load_config('configs/pretrain/quickstart.py')
    train(pretraining, 'work_dirs/pretraining')
    cfg = load_config('configs/detection/faster-rcnn_vit-quickstart_200s_tiny.py')
    cfg = fit_encoder(cfg, pretraining.model.encoder, 'work_dirs/pretraining/epoch_20.pth')
    train(cfg, 'work_dirs/detector')
    result = load_predictor(cfg, 'work_dirs/detector/iter_200.pth')('photo.jpg')

MMDetection and MMSegmentation are imported only when one of their configs is loaded.
"""

from mae_toolkit.apis.anomalib import load_for_anomalib
from mae_toolkit.apis.anomaly import AnomalyDetector, load_anomaly_detector
from mae_toolkit.apis.anomaly_fitting import fit_anomaly_detector
from mae_toolkit.apis.browsing import browse
from mae_toolkit.apis.clustering import cluster_images
from mae_toolkit.apis.detector_comparison import compare_detectors
from mae_toolkit.apis.duplicates import find_duplicates
from mae_toolkit.apis.embedding import FeatureExtractor, embed, load_feature_extractor
from mae_toolkit.apis.encoders import load_encoder
from mae_toolkit.apis.evaluate import evaluate
from mae_toolkit.apis.explain import (
    Explanation,
    explain_attention,
    explain_attention_distance,
    explain_bias,
    explain_cka,
    explain_components,
    explain_dependence,
    explain_map,
    explain_receptive_field,
    explain_reconstruction,
)
from mae_toolkit.apis.exporting import export_encoder
from mae_toolkit.apis.finetuning import finetune
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.pretraining import pretrain
from mae_toolkit.apis.reconstruct import Reconstructor, load_reconstructor, reconstruct_images
from mae_toolkit.apis.similar import find_similar
from mae_toolkit.apis.training import test, train
from mae_toolkit.config import load_config
from mae_toolkit.downstream import fit_encoder, known_encoders, load_predictor, set_label_fraction
from mae_toolkit.models.build import build_model, model_from_checkpoint

__all__ = [
    'AnomalyDetector',
    'Explanation',
    'FeatureExtractor',
    'Reconstructor',
    'browse',
    'build_model',
    'cluster_images',
    'compare_detectors',
    'embed',
    'evaluate',
    'explain_attention',
    'explain_attention_distance',
    'explain_bias',
    'explain_cka',
    'explain_components',
    'explain_dependence',
    'explain_map',
    'explain_receptive_field',
    'explain_reconstruction',
    'export_encoder',
    'find_duplicates',
    'find_similar',
    'finetune',
    'fit_anomaly_detector',
    'fit_encoder',
    'known_encoders',
    'load_anomaly_detector',
    'load_config',
    'load_encoder',
    'load_feature_extractor',
    'load_for_anomalib',
    'load_predictor',
    'load_reconstructor',
    'model_from_checkpoint',
    'predict_images',
    'pretrain',
    'reconstruct_images',
    'set_label_fraction',
    'test',
    'train',
]
