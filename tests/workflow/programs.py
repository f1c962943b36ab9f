"""A `python` whose programs start in a process that has imported their libraries already.

Tests run hundreds of small jobs, each of which would spend its time importing torch and others.
The process holds libraries of others only and forks for each program: what belongs to the tree
under test is imported anew, from the real command line, in the folder where it was given. Anything
but a program of `workflow_scripts` is run by the interpreter itself.
"""

import atexit
import functools
import importlib
import json
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
    "h5netcdf", "h5py", "jinja2", "langcodes.language_distance", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "matplotlib.figure", "pydantic.fields", "safetensors.torch",
    "scipy.optimize", "scipy.stats", "torch", "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto", "transformers.models.gemma3.modeling_gemma3",
    "transformers.models.llama.modeling_llama", "transformers.tokenization_utils_tokenizers",
    "xarray.backends.h5netcdf_",
]  # fmt: skip

SNAKEMAKE = """#!{python}
import sys
sys.executable = {client!r}
from snakemake.cli import main
main()
"""
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
if len(sys.argv) < 2 or not sys.argv[1].startswith("workflow_scripts/"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
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
    attendants: list[int] = []
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        attendants = [n for n in attendants if os.waitpid(n, os.WNOHANG)[0] == 0]
        attendants.append(os.fork())
        if attendants[-1] == 0:
            listener.close()
            return attend(connection)
        connection.close()


def attend(connection: socket.socket) -> None:
    """Start a program; say its process id, and how it ended."""
    size, descriptors, *_ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(size, "big")))
    program = os.fork()
    if program == 0:
        connection.close()
        return become(*request, descriptors)
    connection.sendall(f"{program}\n".encode())
    _, status = os.waitpid(program, 0)
    try:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    finally:
        os._exit(0)  # where nobody listens any more too


def become(
    argv: list[str], folder: str, environment: dict[str, str], descriptors: list[int]
) -> None:
    """Be `python argv` in a folder."""
    for descriptor, place in zip(descriptors, (0, 1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, str(Path(folder, argv[0]).parent))
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
