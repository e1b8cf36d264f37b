"""A page on which anybody can try a model: reconstructions, features, nearest images, anomalies and objects."""

from mae_toolkit.demo.models import Models, Sources, load_models
from mae_toolkit.demo.server import check_gradio, serve, serve_until_interrupted

__all__ = ['Models', 'Sources', 'check_gradio', 'load_models', 'serve', 'serve_until_interrupted']
