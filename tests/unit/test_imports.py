"""Which files an edit reaches: the modules that a program imports, found in its text."""

import sys
from pathlib import Path

import pytest

from isogloss.imports import imported_modules

ROOT = Path(__file__).resolve().parents[2] / "workflow_scripts"

TREE = {
    "lib/__init__.py": "def open():\n    from lib.heavy import load\n    return load\n",
    "lib/heavy.py": "",
    "lib/errors.py": "",
    "lib/files/__init__.py": "from ..errors import InputError\n",
    "lib/files/disk.py": "import json\n",
    "lib/measures/__init__.py": "",
    "lib/measures/near.py": "from . import far\n",
    "lib/measures/far.py": "from ..files.disk import write as put\n",
    "lib/measures/alone.py": "",
}
INIT, FILES = "lib/__init__.py", ["lib/errors.py", "lib/files/__init__.py", "lib/files/disk.py"]
NEAR = ["lib/measures/__init__.py", "lib/measures/far.py", "lib/measures/near.py"]
ALONE = ["lib/measures/__init__.py", "lib/measures/alone.py"]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("import lib.errors", [INIT, "lib/errors.py"]),
        ("import json, lib.errors as e, os", [INIT, "lib/errors.py"]),
        ("import json, \\\n    lib.errors", [INIT, "lib/errors.py"]),
        ("from lib import errors as e", [INIT, "lib/errors.py"]),
        ("from lib.files.disk import write", [INIT, *FILES]),
        ("from lib.files import disk", [INIT, *FILES]),
        ("from lib.measures.near import near", [INIT, *FILES, *NEAR]),
        (
            "from lib.measures import (  # two (of three)\n    alone,\n    errors,\n)",
            [INIT, *ALONE],
        ),
        ("from lib.measures import near, alone", [INIT, *FILES, *NEAR, "lib/measures/alone.py"]),
        ("def f():\n    from lib.measures import alone", [INIT, *ALONE]),
        ("if True:\n\timport lib.measures.alone", [INIT, *ALONE]),
        ('"""\nfrom lib.heavy comes nothing\nimport nothing\n"""', []),
        (">>> from lib import heavy\n# from lib import heavy", []),
        ("import library, lib2, torch\nfrom numpy import lib", []),
    ],
)
def test_every_form_of_import_is_seen(tmp_path: Path, program: str, expected: list[str]) -> None:
    assert imports(tmp_path, program) == sorted(expected)


@pytest.mark.parametrize(
    "program", ["import lib", "import lib as l", "from lib import open", "from lib import *"]
)
def test_what_a_package_imports_late_is_needed_by_whom_uses_the_package_itself(
    tmp_path: Path, program: str
) -> None:
    assert imports(tmp_path, program) == [INIT, "lib/heavy.py"]


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    circle = {"lib/a.py": "from lib import b", "lib/b.py": "from lib import a"}
    assert imports(tmp_path, "import lib.a", circle) == [INIT, "lib/a.py", "lib/b.py"]


def imports(folder: Path, program: str, more: dict[str, str] | None = None) -> list[str]:
    for name, text in (TREE | (more or {}) | {"program.py": program}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    modules = imported_modules(folder / "program.py", folder)
    return [path.relative_to(folder).as_posix() for path in modules]


@pytest.mark.parametrize("name", ["behaviour.py", "scale.py", "similarity.py", "summary.py"])
def test_nothing_that_a_program_loads_is_missing(name: str) -> None:
    """As Python does it: what is in memory after the program is imported."""
    import subprocess

    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(ROOT / name)!r}, run_name='imported')\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'isogloss'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {Path(file).resolve() for file in done.stdout.split()}
    assert loaded and loaded <= {path.resolve() for path in imported_modules(ROOT / name, ROOT)}
