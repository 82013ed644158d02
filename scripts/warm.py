"""The programs without their start: for somebody who runs hundreds of commands one after the other.

`environment` has a directory (`programs`) in front of PATH whose ``ckpt`` and ``trainer`` send what they were given
(arguments, directory, environment, standard streams) to a process that has imported both. It does the work in a fork,
from the entry point to the end of the interpreter, and tells the exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_SOCKET = "socket"
_LENGTH = 4  # bytes of the length before an order
_CLIENT = """#!{python} -IS
import json, os, socket, sys
order = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.path.join(os.path.dirname(sys.argv[0]), {socket!r}))
    socket.send_fds(server, [len(order).to_bytes({length}, "big")], [0, 1, 2])
    server.sendall(order)
    sys.exit(server.recv(1)[0])
"""


@cache
def programs() -> str:
    """The directory; its server ends with this process."""
    directory = Path(tempfile.mkdtemp(prefix="ckpt-"))  # short: a socket's path may have some hundred bytes
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for name in ("ckpt", "trainer"):
        (directory / name).write_text(_CLIENT.format(python=sys.executable, socket=_SOCKET, length=_LENGTH))
        (directory / name).chmod(0o755)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    server = subprocess.Popen(
        [sys.executable, __file__, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert server.stdout is not None
    server.stdout.readline()
    return str(directory)


def environment(**more: str) -> dict[str, str]:
    """This process's, with the programs in front, in English, and ``more``."""
    path = os.pathsep.join([programs(), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **more}


def _serve(directory: str) -> None:
    """Ends, in the server, with its standard input; in a fork, with the program."""
    import numpy  # noqa: F401
    import typer.rich_utils  # noqa: F401

    import ckpt_tools.cli
    import trainer.cli

    entries = {"ckpt": ckpt_tools.cli.main, "trainer": trainer.cli.main}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.join(directory, _SOCKET))
        listening.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the forks ended
        if os.fork() == 0:
            sys.stdin.read()
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listening.close()
                    _answer(connection, entries)


def _answer(connection: socket.socket, entries: dict[str, Callable[[], None]]) -> None:
    header, streams, _, _ = socket.recv_fds(connection, _LENGTH, 3)
    with connection.makefile("rb") as file:
        order = json.loads(file.read(int.from_bytes(header, "big")))
    if worker := os.fork():
        _, status = os.waitpid(worker, 0)
        connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
        os._exit(0)
    connection.close()
    _begin(*order, streams)
    entries[os.path.basename(sys.argv[0])]()
    sys.exit()


def _begin(name: str, arguments: list[str], place: str, environment: dict[str, str], streams: list[Any]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # What Python asked of its streams as it began (is it a file, a terminal?) it has to ask of these.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = [name, *arguments]


if __name__ == "__main__":
    _serve(sys.argv[1])
