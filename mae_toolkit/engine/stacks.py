"""Write down what a process is doing, for the report of a hang."""

import faulthandler
import os
import shutil
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import torch
from torch._C import _distributed_c10d

NATIVE_SECONDS = 15  # most that py-spy may take


def describe_main_thread() -> str:
    """Describe in one line where the main thread is: its innermost call, and the innermost one outside of torch."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return 'ending'
    calls = traceback.extract_stack(frame)
    torch_folder = str(Path(torch.__file__).parent)
    own = next((call for call in reversed(calls) if not call.filename.startswith(torch_folder)), None)
    places = [calls[-1]] if own is None or own is calls[-1] else [calls[-1], own]
    return ', called '.join(f'at {call.filename}:{call.lineno} in {call.name}' for call in places)


def dump_stacks(path: Path) -> None:
    """Write the Python stacks of all threads of this process, and those of C and C++ where py-spy is installed.

    Args:
        path: The file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.flush()
        program = shutil.which('py-spy') or shutil.which('py-spy', path=str(Path(sys.executable).parent))
        if program is not None:
            _dump_native_stacks(program, file)


def _dump_native_stacks(program: str, file: TextIO) -> None:
    """Let py-spy write; where a process may not look into another, its refusal stands in the file."""
    file.write('\npy-spy dump --native:\n')
    file.flush()
    command = [program, 'dump', '--native', '--pid', str(os.getpid())]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=NATIVE_SECONDS)


def dump_flight_recorder(path: Path) -> None:
    """Write what NCCL's flight recorder holds, for ``torchfrtrace``; nothing without NCCL.

    Args:
        path: The file; its folder is made.
    """
    dump = getattr(_distributed_c10d, '_dump_nccl_trace', None)
    if not torch.cuda.is_available() or dump is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump())
