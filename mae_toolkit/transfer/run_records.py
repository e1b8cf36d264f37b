"""Records of runs and pretrainings: their instructions and their results."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mae_toolkit.transfer.records import Record, renamed_field


@dataclass(frozen=True)
class PlannedWeights(Record):
    """A file of weights with which an encoder is to begin.

    Attributes:
        path: The file.
        sha256: Hash of its content; None as long as it is still to be made, or is not at hand.
    """

    path: str
    sha256: str | None


@dataclass(frozen=True)
class Weights(PlannedWeights):
    """A file of weights that was read or made; its hash is known."""

    sha256: str


@dataclass(frozen=True)
class PretrainingOrigin(Record):
    """The pretraining that makes the weights of a run.

    Attributes:
        id: Hash of all that decides its numbers.
        config: Path of its config.
        settings: Hash of that config, with options.
    """

    id: str
    config: str
    settings: str


@dataclass(frozen=True, kw_only=True)
class JobRecord(Record):
    """Instructions for a run or a pretraining, as in ``job.json``.

    Attributes:
        id: Hash of all that decides its numbers.
        encoder: Name of the row of the table.
        config: Path of the config of the task or of the pretraining; of a frozen encoder, the labeled set.
        options: Options that were merged into the config, by dotted key; of a frozen encoder, arguments of
            :func:`~mae_toolkit.apis.evaluate`.
        settings: Hash of the whole config, or of encoder and arguments, without the places of things.
        data: Hashes of annotation files and folders of images by name; None for those that are not at hand.
        weights: With what the encoder begins; None from scratch.
        keep_checkpoints: Whether the checkpoints stay after the result is known.
    """

    id: str
    encoder: str
    config: str
    options: dict[str, Any]
    settings: str
    data: dict[str, str | None]
    weights: PlannedWeights | None
    keep_checkpoints: bool

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the weights; None from scratch, and as long as it is not known."""
        return self.weights.sha256 if self.weights else None


@dataclass(frozen=True, kw_only=True)
class PretrainingRecord(JobRecord):
    """Instructions for a pretraining.

    Attributes:
        task: Stands in the place of a task where jobs are listed.
    """

    task: ClassVar[str] = 'pretraining'
    kind: Literal['pretraining'] = 'pretraining'

    def describe(self) -> str:
        """Name the pretraining in a line of progress."""
        return f'{self.task}, {self.encoder}'


@dataclass(frozen=True, kw_only=True)
class RunRecord(JobRecord):
    """Instructions for a run.

    Attributes:
        task: Name of the task.
        label_fraction: Fraction of the labels that are trained on, above 0 and up to 1.
        seed: Seed of everything random, the choice of the labeled images included.
        family: Family of the encoder, which has one color in the plot.
        pretrained: Whether the encoder begins with weights.
        metrics_needed: Names of the metrics that the test has to give.
        pretraining: What makes the weights, where they are pretrained for the table.
        frozen: Whether the encoder is not trained, but evaluated by probes.
    """

    kind: Literal['run'] = 'run'
    task: str
    label_fraction: float = renamed_field('labels')
    seed: int
    family: str
    pretrained: bool
    metrics_needed: tuple[str, ...] = renamed_field('asked', default=())
    pretraining: PretrainingOrigin | None
    frozen: bool = False

    def describe(self) -> str:
        """Name the run in a line of progress."""
        return f'{self.task}, {self.encoder}, {100 * self.label_fraction:g}%, seed {self.seed}'


@dataclass(frozen=True, kw_only=True)
class Outcome(Record):
    """Time and circumstances of a finished training or evaluation, which ``result.json`` has beside the instructions.

    Attributes:
        config_sha256: Hash of the file with the whole config.
        device: Name of the device.
        versions: Versions of packages by name, and the ``commit`` of the toolkit; None where it has none.
        seconds: Time from the start to the end of the last process.
        resumed: Whether it had begun in an earlier process, so that ``seconds`` is not the whole time.
        started: Time in UTC, ISO 8601.
        finished: Time in UTC, ISO 8601.
    """

    config_sha256: str | None
    device: str
    versions: dict[str, str | None]
    seconds: float
    resumed: bool
    started: str
    finished: str


@dataclass(frozen=True, kw_only=True)
class PretrainingResult(PretrainingRecord, Outcome):
    """Result of a pretraining, as in ``result.json``.

    Attributes:
        weights: The weights that it made.
    """

    weights: Weights


@dataclass(frozen=True, kw_only=True)
class RunResult(RunRecord, Outcome):
    """Result of a run, as in ``result.json``.

    Attributes:
        weights: The weights with which the encoder began; None from scratch.
        metrics: Metrics on the test split by name, as the evaluator gives them.
        chosen: Level and pooling of each probe of a frozen encoder, as validation images chose them.
    """

    weights: Weights | None
    metrics: dict[str, float]
    chosen: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure(Record):
    """Failure of a run or a pretraining, as in ``failure.json``.

    Attributes:
        last_lines: Last lines of its output.
        time: When it failed, in UTC, ISO 8601.
    """

    last_lines: list[str]
    time: str = ''


@dataclass(frozen=True)
class SlurmJob(Record):
    """Submission of a run or a pretraining to Slurm, as in ``slurm.json``.

    Attributes:
        number: Number of the job.
        time: When it was submitted, in UTC, ISO 8601.
    """

    number: str = renamed_field('job')
    time: str = ''


def parse_job(content: object) -> RunRecord | PretrainingRecord:
    """Convert the content of a ``job.json``.

    Raises:
        ValueError: If something in it is missing or of another type.
    """
    return (PretrainingRecord if _is_pretraining(content) else RunRecord).from_dict(content)


def parse_result(content: object) -> RunResult | PretrainingResult:
    """Convert the content of a ``result.json``.

    Raises:
        ValueError: If something in it is missing or of another type.
    """
    return (PretrainingResult if _is_pretraining(content) else RunResult).from_dict(content)


def _is_pretraining(content):
    return isinstance(content, dict) and content.get('kind') == 'pretraining'
