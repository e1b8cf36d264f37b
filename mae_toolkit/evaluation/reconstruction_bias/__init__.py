"""Where a masked autoencoder reconstructs some images worse than others, and whether that is the model's fault."""

from mae_toolkit.evaluation.reconstruction_bias.measured_set import MeasuredSet, SetMeasurer
from mae_toolkit.evaluation.reconstruction_bias.report import BiasReport, RankedImage, report_bias

__all__ = ['BiasReport', 'MeasuredSet', 'RankedImage', 'SetMeasurer', 'report_bias']
