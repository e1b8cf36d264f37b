"""Python programs in forks of one process that has imported torch and the other libraries, as imports take seconds.

What runs is a process of its own, with its own arguments, environment, folder, outputs and exit status. The toolkit is
not among what the first process has imported: each program imports it for itself, as it does for a user.
"""

import contextlib
import functools
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = 'torch', 'torchvision', 'timm', 'mmengine.runner', 'mmengine.visualization', 'matplotlib.pyplot', 'cv2'
SECONDS = [0.0]  # of all programs that were waited for, for whoever measures tests
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = dict(arguments=sys.argv[1:], cwd=os.getcwd(), env=dict(os.environ))
    socket.send_fds(server, [json.dumps(request).encode() + b'\\n'], [0, 1, 2])
    answers = server.makefile()
    process = json.loads(answers.readline())['pid']
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.killpg(process, number))  # to all processes, as Slurm does
    status = json.loads(answers.readline())['status']
sys.exit(status if status >= 0 else 128 - status)
"""


class Started:
    """A program that was started."""

    def __init__(self, connection, outputs):
        self._connection, self._outputs, self._answers = connection, outputs, connection.makefile()
        self.pid = json.loads(self._answers.readline())['pid']
        self.returncode = None

    def wait(self, timeout=600):
        """Its exit status, output and errors, as :func:`subprocess.run` returns them."""
        self._connection.settimeout(timeout)
        try:
            answer = json.loads(self._answers.readline())
            self.returncode, SECONDS[0] = answer['status'], SECONDS[0] + answer['seconds']
        finally:
            self._answers.close()
            self._connection.close()  # what has not ended by now is killed
        texts = []
        for file in self._outputs:
            file.seek(0)
            texts.append(io.TextIOWrapper(file, errors='replace').read())
        return subprocess.CompletedProcess([], self.returncode, *texts)

    def poll(self):
        """Its exit status if it has ended, else None."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def kill(self):
        """End it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class _Server:
    """The process that has imported the libraries; it ends with the one that has started it."""

    def __init__(self, *libraries):
        self._folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self._folder.name) / 'socket')
        env = {**os.environ, 'OMP_NUM_THREADS': '1'}
        command = [sys.executable, __file__, self.address, *libraries]
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd='/')
        assert self._process.stdout.readline() == b'ready\n'

    def start(self, arguments, cwd, env):
        outputs = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 (closed when they were read)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        request = {'arguments': [str(a) for a in arguments], 'cwd': str(cwd), 'env': dict(env)}
        with open(os.devnull) as nothing:
            files = [nothing.fileno(), *(file.fileno() for file in outputs)]
            socket.send_fds(connection, [json.dumps(request).encode() + b'\n'], files)
            return Started(connection, outputs)


@functools.cache
def _server(*libraries):
    return _Server(*libraries)


def start_python(*arguments, cwd=ROOT, env=None):
    """Start ``python ARGUMENTS``: a script, ``-m module`` or ``-c code``, and what follows it."""
    return _server().start(arguments, cwd, os.environ if env is None else env)


def run_python(*arguments, cwd=ROOT, env=None, timeout=600):
    """Run ``python ARGUMENTS`` to its end; like :func:`subprocess.run` with its outputs captured as text."""
    return start_python(*arguments, cwd=cwd, env=env).wait(timeout)


def write_program(folder, *libraries):
    """A program that can be called like ``python``, for scripts that start it; returns its path.

    With ``libraries``, its programs are forks of a process that has imported these, too: the toolkit itself, for tests
    that start it so often that this matters and that do not test how it starts.
    """
    path = Path(folder) / 'warm-python'
    path.write_text(CLIENT.format(python=sys.executable, address=_server(*libraries).address))
    path.chmod(0o755)
    return str(path)


def _serve(address, *libraries):
    """Answer requests until standard input ends."""
    for name in (*LIBRARIES, *libraries):
        with contextlib.suppress(ImportError):
            __import__(name)
    gc.collect()
    gc.freeze()
    os.fsync = lambda descriptor: None  # as in the tests' own process, see conftest.py
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print('ready', flush=True)
    running = {}  # connections by process
    while True:
        ready, _, _ = select.select([0, listener, reader, *running.values()], [], [])
        if 0 in ready:
            break
        if reader in ready:
            os.read(reader, 4096)
        if listener in ready:
            connection = listener.accept()[0]
            process = _fork(connection, [listener, *running.values()])
            running[process] = connection
        for process, connection in list(running.items()):
            ended, status, used = os.wait4(process, os.WNOHANG)
            if not ended and connection in ready and not connection.recv(1):
                os.killpg(process, signal.SIGKILL)  # nobody waits for it
                ended, status, used = os.wait4(process, 0)
            if ended:
                answer = {'status': os.waitstatus_to_exitcode(status), 'seconds': used.ru_utime + used.ru_stime}
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps(answer).encode() + b'\n')
                running.pop(process).close()
    for process in running:
        os.killpg(process, signal.SIGKILL)


def _fork(connection, others):
    """Begin what a connection asks for; returns the number of the process."""
    text, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not text.endswith(b'\n'):
        text += connection.recv(1 << 20)
    process = os.fork()
    if not process:
        for other in (connection, *others):
            other.close()
        _become(files, **json.loads(text))
    for file in files:
        os.close(file)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(process, process)  # as the process does for itself, whoever comes first
    connection.sendall(json.dumps({'pid': process}).encode() + b'\n')
    return process


def _become(files, arguments, cwd, env):
    """Be the program from here to the end."""
    status = 1
    try:
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (until the end)
        sys.stdout = open(1, 'w', buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, 'w', buffering=1, closefd=False, errors='backslashreplace')  # noqa: SIM115
        before = os.environ.get('PYTHONPATH', '').split(os.pathsep)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        sys.path[:] = [path for path in sys.path[1:] if path not in before]
        sys.path[:0] = [path for path in env.get('PYTHONPATH', '').split(os.pathsep) if path]
        _interpret(arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _interpret(arguments):
    """What the interpreter does with its arguments."""
    while arguments[0] in ('-u', '-S'):
        arguments = arguments[1:]
    kind, *rest = arguments
    sys.argv = arguments
    if kind == '-c':
        sys.argv = ['-c', *rest[1:]]
        sys.path.insert(0, '')
        exec(compile(rest[0], '<string>', 'exec'), {'__name__': '__main__'})
    elif kind == '-m':
        sys.argv = rest
        sys.path.insert(0, os.getcwd())
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(kind)))
        runpy.run_path(kind, run_name='__main__')


def _leave(status):
    """End as the interpreter does, but for its objects."""
    try:
        import atexit
        import threading

        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == '__main__':
    _serve(*sys.argv[1:])
