"""Which modules of the library a program needs: what an edit has to reach, and no more.

Seen: absolute and relative imports, with aliases, over several lines, in functions; the
`__init__.py` of every package on the way. Not seen: an import behind other code on a line, or by
a name that is worked out (`importlib`): the library has neither.

An `__init__.py` runs whenever a module below it is imported, but only its top level does: what its
functions import is needed by those who call them. So these imports count for a program that uses
the package itself (`import isogloss`, `from isogloss import open`), and not for one that imports
a module below it (`from isogloss.files.hdf5 import verify_hdf5`).
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

# Python's parser would take a fifth of a second for all files, at every start of Snakemake. Only
# the statements go through it. Lines of prose that begin like one are none, and are left out.
_STATEMENT = re.compile(
    r"^(?P<indent>[ \t]*)(?P<text>(?:from[ \t]+[.\w]+[ \t]+import\b|import\b)"
    r"(?:[^\n\\#(]|\\\n|\((?:[^)#]|#[^\n]*)*\))*)",
    re.MULTILINE,
)


def imported_modules(program: Path, root: Path) -> list[Path]:
    """Files of the library that a program imports, directly or through other modules.

    Args:
        program: a Python file.
        root: folder that holds the packages; what is imported from elsewhere is not listed.

    Returns:
        Sorted, the program itself left out.
    """
    needed, queue = set(), [(program, True)]
    while queue:
        for module in _imports(*queue.pop(), root):
            if module not in needed:
                needed.add(module)
                queue.append(module)
    return sorted({path for path, _ in needed})


@functools.cache
def _imports(path: Path, whole: bool, root: Path) -> list[tuple[Path, bool]]:
    """Modules that a file imports itself, each with whether its functions count too.

    Args:
        whole: whether imports within functions count.
    """
    modules: list[tuple[Path, bool]] = []
    for statement in _statements(path, whole):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                modules += _on_the_way(alias.name.split("."), root)
            continue
        if statement.level:
            folder = path.parents[statement.level - 1].relative_to(root)
            package = [*folder.parts, *filter(None, (statement.module or "").split("."))]
        else:
            package = (statement.module or "").split(".")
        for alias in statement.names:
            names = [*package, alias.name]
            modules += _on_the_way(
                names if _file(tuple(package), alias.name, root) else package, root
            )
    return modules


def _statements(path: Path, whole: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements of a file; only those at its top level where it is not wanted whole."""
    for match in _STATEMENT.finditer(path.read_text(encoding="utf-8")):
        if match["indent"] and not whole:
            continue
        try:
            (statement,) = ast.parse(match["text"]).body
        except (SyntaxError, ValueError):  # prose
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement


@functools.cache
def _file(package: tuple[str, ...], name: str, root: Path) -> Path | None:
    """The file of a module or package; None where there is none below `root`."""
    stem = root.joinpath(*package, name)
    files = (stem / "__init__.py", stem.with_name(f"{name}.py"))
    return next((file for file in files if file.is_file()), None)


def _on_the_way(names: list[str], root: Path) -> Iterator[tuple[Path, bool]]:
    """The file of a module, and the `__init__.py` of every package above it."""
    for depth, name in enumerate(names):
        if file := _file(tuple(names[:depth]), name, root):
            yield file, depth == len(names) - 1
