"""A warm process: it has imported what the programs import, and forks one that runs a program.

Each fork is a real process, which runs the real program from its command line and can be killed;
only the seconds of importing are saved. Requests come as lines of JSON on standard input:
`{"argv", "folder", "log", "moment"}` starts a program and answers with its process id,
`{"wait", "pause"}` answers with its return code, negative where a signal killed it, or, where
`pause` is true, with PAUSED as soon as SIGSTOP stops it.

A moment ends the process from within: `{"doing", "event", "signal"}` sends a signal at the n-th
event, a line or a call of Python code, while the program is in a part that DOING names. Moments
are reached alike on every machine, however fast it is. `{"count": file}` counts events, and
`{"shards": file}` writes down which shards there are when the first file is assembled.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

DOING = {
    "compute_shards": "between shards",
    "compute_shard": "inside a shard",
    "write_shard": "writing a shard",
    "assemble": "assembling",
    "clear": "removing shards",
    "evaluate": "steering",
    "lens_dataset": "reading the lens",
    "write_artifact": "writing a table",
}
BEFORE = "before"
IMPORTED = [
    "isogloss.extraction.shards",
    "isogloss.extraction.self_tests",
    "isogloss.steering.evaluate",
    "isogloss.model.tiny_models",
    "isogloss.steering.vectors",
    "transformers.models.auto.modeling_auto",
    "transformers.models.gemma3.modeling_gemma3",
    "transformers.tokenization_utils_tokenizers",
]
PAUSED = 1000


class Stack(threading.local):
    """What each thread is doing, from the outside in."""

    def __init__(self) -> None:
        self.names = [BEFORE]


class Tracer:
    """Follows a program's functions, in all its threads, and acts at its moment."""

    def __init__(self, moment: dict[str, Any]) -> None:
        self.moment, self.counts, self._stack = moment, Counter[str](), Stack()
        self.by_line = "doing" in moment or "count" in moment

    @property
    def stack(self) -> list[str]:
        return self._stack.names

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        entered = DOING.get(frame.f_code.co_name)
        if entered is not None:
            if entered == "assembling" and "shards" in self.moment:
                self.note_shards()
            self.stack.append(entered)
        self.step(frame)
        return self.inside if self.by_line and self.stack[-1] != BEFORE else None

    def inside(self, frame: Any, event: str, _: Any) -> Any:
        if event == "return" and frame.f_code.co_name in DOING:
            self.stack.pop()
        elif event == "line":
            self.step(frame)
        return self.inside

    def step(self, frame: Any) -> None:
        doing = self.stack[-1]
        self.counts[doing] += 1
        if [doing, self.counts[doing]] == [self.moment.get("doing"), self.moment.get("event")]:
            where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            Path(self.moment["note"]).write_text(where, encoding="utf-8")
            os.kill(os.getpid(), self.moment["signal"])

    def note_shards(self) -> None:
        stats = {str(path): path.stat() for path in Path("store").rglob("*.work/*.npz")}
        noted = {name: [stat.st_ino, stat.st_mtime_ns] for name, stat in stats.items()}
        known = json.loads(Path(self.moment["shards"]).read_text(encoding="utf-8") or "{}")
        Path(self.moment["shards"]).write_text(json.dumps(noted | known), encoding="utf-8")


def run_program(request: dict[str, Any]) -> None:
    """Become the program: what follows is what the interpreter does with a script."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream, descriptor in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(stream, descriptor)
    os.chdir(request["folder"])
    sys.argv = request["argv"]
    moment = request.get("moment")
    tracer = Tracer(moment or {})
    vars(importlib.import_module("isogloss.program"))["STARTED"] = time.monotonic()
    if moment:
        sys.settrace(tracer)
        threading.settrace(tracer)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.settrace(None)
        threading.settrace(None)
        if moment and "count" in moment:
            Path(moment["count"]).write_text(json.dumps(tracer.counts), encoding="utf-8")


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a fork that collects would copy what it looks at
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], os.WUNTRACED if request["pause"] else 0)
            answer = PAUSED if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                return run_program(request)
        print(answer, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
