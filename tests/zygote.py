"""New processes in a moment: a process that has imported what they need, and done nothing else, forks for each of them.

A Python that imports torch, transformers and this project anew takes ten seconds of processor time; a fork takes none. What
it runs finds nothing of the tests' memory, and ends, is killed and says how as any process does.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    "torch", "transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2", "plotly.graph_objects",
    "accelerate", "sklearn.metrics", "scipy.stats", "vp_core.study", "vp_core.curves", "vp_core.squeezing.folder",
    "vp_core.identity.snip", "vp_core.running.finetune", "app.cli.commands", "app.cli.trainings.identity_commands",
    "streamlit.web.cli", "app.web.caching",
)  # fmt: skip
FORKS_TOO = ("jemalloc_bg_thd",)
"""Threads whose libraries see to forks themselves: pyarrow's allocator."""


class Zygote:
    """The process that forks, started in the folder `here`; `start` is `subprocess.Popen` of `python -c`."""

    def __init__(self, here: Path, address: Path) -> None:
        self._address = str(address)
        listening = f"import sys; sys.path[:0] = ['tests', '.']; import zygote; zygote.serve({self._address!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", listening], cwd=here, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def start(self, code: str, *arguments: object) -> "Forked":
        order = {"code": code, "arguments": [str(one) for one in arguments], "environment": dict(os.environ)}
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        pipes = [os.pipe(), os.pipe()]
        socket.send_fds(connection, [b" "], [write for _, write in pipes])
        connection.sendall(json.dumps(order).encode() + b"\n")
        for _, write in pipes:
            os.close(write)
        return Forked(connection, *(read for read, _ in pipes))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Forked:
    """What tests use of `subprocess.Popen`, of a process that the zygote forked."""

    def __init__(self, connection: socket.socket, stdout: int, stderr: int) -> None:
        self._connection, self._told = connection, connection.makefile()
        self.stdout, self.stderr = open(stdout), open(stderr)  # noqa: PTH123, SIM115
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 600) -> int:
        """The exit status; a process that takes longer is killed."""
        self._connection.settimeout(timeout)
        try:
            self.returncode = int(self._told.readline())
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            raise
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """(stdout, stderr) from here to the end."""
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            self.wait(timeout)
        out, err = (one.result() for one in reading)
        return out, err


def serve(address: str) -> NoReturn:
    """Import, say so, and fork for whoever connects, until the end; never returns."""
    for name in IMPORTED:
        __import__(name)
    threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len([name for name in threads if name not in FORKS_TOO]) > 1:
        raise RuntimeError(f"Only a process of one thread may fork, and what is imported has started others: {threads}.")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, _bury)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(connection)
        connection.close()


def _bury(*_: object) -> None:
    """Take note of every process that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(connection: socket.socket) -> NoReturn:
    """Fork once more; tell the number of that process, and its exit status when it has one."""
    _, (stdout, stderr), *_ = socket.recv_fds(connection, 1, 2)
    order = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.dup2(stdout, 1), os.dup2(stderr, 2)
        os.close(stdout), os.close(stderr)
        _become(order)
    os.close(stdout), os.close(stderr)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(order: dict[str, Any]) -> NoReturn:
    """Run the code as `python -c` would, and end as it does, without taking down what was imported: that takes seconds."""
    os.environ.clear()
    os.environ.update(order["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
    sys.argv = ["-c", *order["arguments"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    status: object = 0
    try:
        exec(compile(order["code"], "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        status = traceback.format_exc()
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)
