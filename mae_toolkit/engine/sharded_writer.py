"""Writing sharded checkpoints from all processes, while the training goes on or not."""

import datetime
import logging
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.logging import print_log
from torch import Tensor, distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.tensor import DTensor

from mae_toolkit.checkpoints.publishing import begin_folder, name_partial
from mae_toolkit.checkpoints.sharded import split_checkpoint
from mae_toolkit.engine.checkpoint_contents import AVERAGE

PATIENCE = datetime.timedelta(minutes=30)  # for the slowest process to write its part


class ShardedWriter:
    """Writes one folder at a time: each process its part, and the first one what is left.

    The processes talk to each other over a group of their own, so that a save in a thread never mixes with what the
    training sends. All methods have to be called in all processes.

    Args:
        parameters: Names of the model's parameters, which are the same in every process.
        finish: Called once in every process, in a thread for an asynchronous save, after all parts are written.
    """

    def __init__(self, parameters: set[str], finish: Callable[[Path], None]) -> None:
        self._finish = finish
        self._shared = {('state_dict', name) for name in parameters}
        self._shared |= {(AVERAGE, f'module.{name}') for name in parameters}
        self._group: Any = None
        if distributed.is_initialized():
            self._group = distributed.new_group(backend='gloo', timeout=PATIENCE)
        else:  # torch says so at every save, also in a thread, where no filter for a while would do
            warnings.filterwarnings('ignore', message='torch.distributed is disabled')
        self._stager: Any = None
        self._saving: Future[None] | None = None

    def start(self, folder: Path, checkpoint: Mapping[str, Any]) -> None:
        """Copy the tensors of a checkpoint, and write them in a thread; :meth:`wait` says what became of it.

        Raises:
            OSError: If the folder cannot be made.
        """
        assert self._saving is None, 'one save at a time'
        partial, tensors = self._begin(folder, checkpoint)
        saving: Future[None] = Future()
        writer = dcp.FileSystemWriter(partial)
        written: Any = dcp.async_save(tensors, storage_writer=writer, process_group=self._group, **self._stage())
        self._saving = saving
        written = getattr(written, 'upload_completion', written)
        written.add_done_callback(lambda done: self._conclude(done, saving, folder))

    def write(self, folder: Path, checkpoint: Mapping[str, Any]) -> None:
        """Write a checkpoint, and return when it is whole.

        Raises:
            OSError: If a process cannot write its part.
        """
        assert self._saving is None, 'one save at a time'
        partial, tensors = self._begin(folder, checkpoint)
        try:
            dcp.save(tensors, storage_writer=dcp.FileSystemWriter(partial), process_group=self._group)
        except dcp.CheckpointException as error:
            raise _find_cause(error) from error
        self._run_on_all(lambda: self._finish(folder))

    def wait(self) -> Exception | None:
        """Wait for the save that was started, if one was.

        Returns:
            What stopped it in any process; None if nothing did.
        """
        if self._saving is None:
            return None
        saving, self._saving = self._saving, None
        try:
            self._run_on_all(saving.result)
        except Exception as error:
            return error
        return None

    def close(self) -> None:
        """Give back the memory for copies."""
        if self._stager is not None:
            self._stager.close()

    def _begin(self, folder: Path, checkpoint: Mapping[str, Any]) -> tuple[Path, dict[str, Tensor]]:
        """Make the folder in the first process, and choose what this one has to write."""
        outline, tensors = split_checkpoint(checkpoint)
        self._run_on_all(lambda: begin_folder(folder, outline) if is_main_process() else None)
        return name_partial(folder), {name: tensor for name, tensor in tensors.items() if self._is_shared(name, tensor)}

    def _is_shared(self, name: str, tensor: Tensor) -> bool:
        """Return whether this process may write a tensor: all may that have the same values, else the first alone.

        Running statistics, for example, differ between processes, and those of the first are kept.
        """
        if get_rank() == 0 or isinstance(tensor, DTensor):
            return True
        part, _, rest = name.partition('.')
        return part == 'optimizer' or (part, rest) in self._shared

    def _stage(self) -> dict[str, Any]:
        """Return the arguments by which torch copies tensors into memory that stays, pinned where there is a GPU."""
        try:
            from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
        except ImportError:  # torch before 2.9 copies them anew for each save
            return {}
        if self._stager is None:
            on_gpu = torch.cuda.is_available()
            self._stager = DefaultStager(
                StagingOptions(
                    use_pinned_memory=on_gpu,
                    use_shared_memory=False,
                    use_async_staging=False,
                    use_non_blocking_copy=on_gpu,
                )
            )
        return {'async_stager': self._stager}

    def _conclude(self, done: Future[Any], saving: 'Future[None]', folder: Path) -> None:
        """Publish what a thread has written, and keep what went wrong for :meth:`wait`."""
        try:
            if error := done.exception():
                raise _find_cause(error) if isinstance(error, dcp.CheckpointException) else error
            self._finish(folder)
        except BaseException as error:
            print_log(f'Writing {folder} in the background failed: {error!r}', 'current', logging.ERROR)
            saving.set_exception(error)
        else:
            saving.set_result(None)

    def _run_on_all(self, step: Callable[[], object]) -> None:
        """Take a step in every process, and fail in all of them if it fails in one.

        Raises:
            OSError: In the processes in which it did not fail; the others raise their own error.
        """
        error: Exception | None = None
        try:
            step()
        except Exception as own:
            error = own
        failed = torch.tensor(int(error is not None))
        if self._group is not None:
            distributed.all_reduce(failed, distributed.ReduceOp.MAX, group=self._group)
        if error is not None:
            raise error
        if failed:
            raise OSError('another process could not write its part of the checkpoint; its log says why')


def _find_cause(error: dcp.CheckpointException) -> Exception:
    """Return what one of the processes failed with, an ``OSError`` before others."""
    causes = [cause for cause, _ in error.failures.values()]
    causes.sort(key=lambda cause: not isinstance(cause, OSError))
    return causes[0] if causes and isinstance(causes[0], Exception) else RuntimeError(str(error))
