"""Test loop of a classifier that also asks the nearest neighbors."""

from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch import Tensor
from torch.utils.data import DataLoader

from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import compute_knn_accuracy
from mae_toolkit.models import Classifier
from mae_toolkit.registry import DATASETS, LOOPS


@LOOPS.register_module()
class KNNTestLoop(TestLoop):
    """Test a classifier, and classify the same images by their nearest labeled training images.

    The features are those that the classifier pools, the training images are those of ``train_dataloader.dataset``
    (its share of the labels included), each once and through the pipeline of the test images. A linear probe with
    this loop measures both in one run::

        test_cfg = dict(type='KNNTestLoop', k=20)

    The result is ``knn/top1``, in percent, beside the metrics of the evaluator.

    Args:
        runner: The runner.
        dataloader: The data loader of the test images, or its config.
        evaluator: The evaluator, or its config.
        fp16: Autocast the evaluator's pass, as in MMEngine.
        k: Number of neighbors that vote.
        temperature: Temperature of the votes, see :func:`compute_knn_accuracy`.

    Raises:
        UserError: If the model is no :class:`Classifier`, or the config has no labeled training images.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list,
        fp16: bool = False,
        k: int = 20,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.k, self.temperature = k, temperature
        if not isinstance(unwrap(runner.model), Classifier):
            raise UserError(f'KNNTestLoop compares what a Classifier pools: a {type(runner.model).__name__} is none.')
        if runner.cfg.get('train_dataloader') is None:
            raise UserError('KNNTestLoop looks for neighbors among the images of train_dataloader, which is not set.')

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Compute and return the metrics of the evaluator, and ``knn/top1``."""
        metrics = super().run()
        test = self.dataloader.dataset
        given = dict(self.runner.cfg.train_dataloader.dataset)
        train = DATASETS.build(given | dict(pipeline=test.transforms, repeat=1))
        accuracy = compute_knn_accuracy(
            *self._extract(train), *self._extract(test), k=self.k, temperature=self.temperature
        )
        return metrics | {'knn/top1': 100 * accuracy}

    def _extract(self, dataset: Any) -> tuple[Tensor, Tensor]:
        """Return the pooled features (N, C) of the images of a dataset that can be read, and their labels (N,)."""
        model = unwrap(self.runner.model).eval()
        features, labels = [], []
        for batch in DataLoader(dataset, batch_size=self.dataloader.batch_size, collate_fn=image_collate):
            readable = ~torch.tensor(batch['replaced'])
            imgs = model.data_preprocessor(batch, False)['imgs'][readable]  # (B, C, H, W)
            features.append(model.pool(imgs).float().cpu())
            labels.append(batch['labels'][readable])
        return torch.cat(features), torch.cat(labels)
