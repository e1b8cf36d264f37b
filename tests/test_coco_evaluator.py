"""What pycocotools prints, as it reads annotations and as it evaluates, goes into the log."""

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger

from engine_toys import ToyImages, make_runner
from mae_toolkit.engine.console import quiet_console
from mae_toolkit.evaluation.coco import LoggedEvaluator, log_evaluation
from mae_toolkit.registry import DATASETS


class Printing(BaseMetric):
    """A metric that prints a table, as pycocotools does."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        print('\n Average Precision  (AP) @[ IoU=0.50:0.95 ] = 0.100')
        return {'mAP': 0.1}


class PrintingCoco(Printing):
    _coco_api = None


def test_what_coco_metrics_print_is_in_the_log_and_not_on_the_console(tmp_path, capsys):
    logger = MMLogger.get_instance('coco prints', log_file=str(tmp_path / 'log'))
    quiet_console(logger)
    evaluator = log_evaluation(Evaluator(PrintingCoco()))
    evaluator.process([1])
    assert evaluator.evaluate(1) == {'mAP': 0.1}
    said = capsys.readouterr()
    assert 'Average' not in said.out + said.err
    assert 'Printed: Average Precision  (AP)' in (tmp_path / 'log').read_text()


class EmptyCoco(PrintingCoco):
    """A metric that fails softly, as MMDetection's does if nothing was predicted."""

    def compute_metrics(self, results):
        logger = MMLogger.get_current_instance()
        logger.error('The testing results of the whole dataset is empty.')
        logger.error('another error')
        return {}


def test_an_empty_prediction_is_no_error_beside_the_warning_of_zeros(tmp_path):
    logger = MMLogger.get_instance('empty coco', log_file=str(tmp_path / 'log'))
    evaluator = log_evaluation(Evaluator(EmptyCoco()))
    evaluator.process([1])
    assert evaluator.evaluate(1) == {}
    said = (tmp_path / 'log').read_text()
    assert 'whole dataset is empty' not in said and 'another error' in said
    logger.error('The testing results of the whole dataset is empty.')  # outside of an evaluation
    assert 'whole dataset is empty' in (tmp_path / 'log').read_text()


def test_other_evaluators_stay_as_they_are():
    evaluator = Evaluator(Printing())
    assert log_evaluation(evaluator) is evaluator and not isinstance(evaluator, LoggedEvaluator)


@DATASETS.register_module(force=True)
class PrintingImages(ToyImages):
    """Images that print when they are built, as MMDetection's with annotations of COCO."""

    def __init__(self):
        super().__init__()
        print('loading annotations into memory...')


def test_what_datasets_print_is_in_the_log_and_not_on_the_console(tmp_path, capsys):
    runner = make_runner(tmp_path)
    quiet_console(runner.logger)
    config = {'batch_size': 2, 'sampler': {'type': 'EpochSampler', 'shuffle': False}}
    runner.build_dataloader(config | {'dataset': {'type': 'PrintingImages'}})
    assert 'loading' not in capsys.readouterr().out
    (log,) = tmp_path.rglob('*.log')
    assert 'Printed: loading annotations into memory...' in log.read_text()
