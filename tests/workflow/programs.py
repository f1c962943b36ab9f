"""A `python` whose programs, and a `snakemake`, start in a process that imported their libraries.

Tests run hundreds of small jobs, each of which would spend its time importing torch and others.
The process holds libraries of others only and forks for each program: what belongs to the tree
under test is imported anew, from the real command line, in the folder where it was given. Anything
but Snakemake and the programs of `workflow_scripts` is run by the interpreter itself.
"""

import atexit
import functools
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = [
    "babel.localedata", "docutils.core", "fsspec", "h5netcdf", "h5py", "jinja2",
    "langcodes.language_distance", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "matplotlib.figure", "pydantic.fields", "safetensors.torch",
    "scipy.optimize", "scipy.sparse.csgraph", "scipy.stats", "smart_open", "snakemake.cli",
    "snakemake.profiles", "snakemake.report.html_reporter", "torch", "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto", "transformers.models.gemma3.modeling_gemma3",
    "transformers.models.llama.modeling_llama", "transformers.tokenization_utils_tokenizers",
    "xarray.backends.h5netcdf_", "yte",
]  # fmt: skip
FORK = multiprocessing.get_context("fork")

SNAKEMAKE = '#!/bin/sh\nexec {client} -m snakemake "$@"\n'
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
asked = sys.argv[1:]
if asked[:2] != ["-m", "snakemake"] and not (asked and asked[0].startswith("workflow_scripts/")):
    os.execv({python!r}, [{python!r}, *asked])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([asked, os.getcwd(), dict(os.environ), __file__]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
answers = server.makefile("r")
program = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(program, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@functools.cache
def python() -> str:
    """The path of such a `python`, beside a `snakemake` whose jobs take it.

    The process that they share ends with this one.
    """
    folder = tempfile.TemporaryDirectory(prefix="python")
    client, address = Path(folder.name, "python"), f"{folder.name}/address"
    about = {"python": sys.executable, "address": address, "client": str(client)}
    for path, text in ((client, CLIENT), (client.with_name("snakemake"), SNAKEMAKE)):
        path.write_text(text.format(**about), encoding="utf-8")
        path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HDF5_USE_FILE_LOCKING": "FALSE"},
        )

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return str(client)


def serve(listener: socket.socket) -> None:
    """Fork for every program that is asked for, until standard input ends."""
    sys.path.remove(str(Path(__file__).parent))
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # a fork that collects would look at each of their objects, and copy its page
    attendants: list[int] = []
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        attendants = [n for n in attendants if os.waitpid(n, os.WNOHANG)[0] == 0]
        attendants.append(os.fork())
        if attendants[-1] == 0:
            try:
                listener.close()
                attend(connection)
            finally:
                os._exit(0)  # where nobody listens any more too
        connection.close()


def attend(connection: socket.socket) -> None:
    """Start a program; say its process id, and how it ended."""
    size, descriptors, *_ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(size, "big")))
    program = FORK.Process(target=become, args=[*request, descriptors, connection])
    program.start()
    connection.sendall(f"{program.pid}\n".encode())
    program.join()
    connection.sendall(f"{program.exitcode}\n".encode())


def become(
    argv: list[str],
    folder: str,
    environment: dict[str, str],
    client: str,
    descriptors: list[int],
    connection: socket.socket,
) -> None:
    """Be `python argv` in a folder."""
    connection.close()
    for descriptor, place in zip(descriptors, (0, 1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As an editable install of the folder would have it.
    sys.path.insert(0, str(Path(folder, "workflow_scripts")))
    if argv[0] == "-m":
        # Tests edit a file twice within a second, in the same length: bytecode could not tell.
        sys.dont_write_bytecode = True
        sys.executable, sys.argv = client, argv[1:]
        sys.path.insert(0, folder)
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
