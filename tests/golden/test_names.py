"""Names must not change unseen: another name makes every store that there is useless.

In names.json are the default study's manifests and readouts, a digest of the names of each stage's
artifacts, and the command of its rule, which Snakemake compares with the recorded one. Where new
names are meant, raise the stage's version (isogloss/versions.py) and write the file anew:

    ISOGLOSS_WRITE_GOLDEN=1 pytest tests/golden/test_names.py
"""

import ast
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.conftest import COMPUTE, STATISTICS, copy_tree

from isogloss import versions
from isogloss.study.keys import STAGES, Artifacts
from isogloss.study.schema import read
from isogloss.study.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("names.json")
REWRITE = "ISOGLOSS_WRITE_GOLDEN=1 pytest tests/golden/test_names.py"


def names_now() -> dict[str, Any]:
    """What the code at hand names: files that the rules wait for, and artifacts, by stage."""
    settings = Settings(read(Path("config/config.yaml")))
    artifacts = list(Artifacts(settings).all())
    waited = {name: stage for name, (stage, _) in settings.manifests().items()}
    waited |= {artifact.name: "readout" for artifact in artifacts if artifact.stage == "readout"}
    of_stage = {stage: [a.name for a in artifacts if a.stage == stage] for stage in STAGES}
    return {
        stage: {
            "waited_for": sorted(name for name, of in waited.items() if of == stage),
            "artifacts": len(names),
            "command": command_of(STAGES[stage].rule),
            "sha256": hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest(),
        }
        for stage, names in of_stage.items()
    }


def command_of(rule: str) -> str:
    """The shell command of a rule, as it is written."""
    for path in Path("rules").glob("*.smk"):
        pattern = rf"^rule {rule}:\n.*?^    shell:\n((?: {{8}}\"[^\n]*\"\n)+)"
        if match := re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            return str(ast.literal_eval(f"({match[1]})"))
    raise AssertionError(f"no rule {rule} with a shell command")


def versions_now() -> dict[str, int]:
    return {n: v for n, v in sorted(vars(versions).items()) if n.endswith("_VERSION")}


def judge(golden: dict[str, Any], names: dict[str, Any], raised: dict[str, int]) -> str:
    """What is wrong and what to do; empty where nothing is."""
    if changed := [f"{n} {v}" for n, v in raised.items() if golden["versions"].get(n) != v]:
        return f"names.json is older than {', '.join(changed)}: write it anew: {REWRITE}"
    other = [stage for stage in STAGES if golden["names"][stage] != names[stage]]
    if other:
        return (
            f"{', '.join(other)}: other names or commands under the same versions, so that what is "
            "in stores would be computed again: undo that, or raise the version and write "
            f"names.json anew: {REWRITE}"
        )
    return ""


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return content


def test_names_change_only_with_a_new_version(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    names = names_now()
    if os.environ.get("ISOGLOSS_WRITE_GOLDEN"):
        content = {"versions": versions_now(), "names": names}
        GOLDEN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert not (message := judge(golden, names, versions_now())), message


def test_another_name_asks_for_a_new_version(golden: dict[str, Any]) -> None:
    names, now = golden["names"], golden["versions"]
    assert judge(golden, names, now) == ""
    changed = names | {"lens": names["lens"] | {"sha256": "0" * 64}}
    assert judge(golden, changed, now).startswith("lens: other names")
    raised = now | {"LENS_VERSION": now["LENS_VERSION"] + 1}
    assert f"older than LENS_VERSION {raised['LENS_VERSION']}" in judge(golden, changed, raised)


def test_a_store_made_before_is_used_whole(golden: dict[str, Any], tmp_path: Path) -> None:
    """Snakemake finds every file that names.json lists, and plans nothing that costs a model."""
    study = copy_tree(tmp_path / "tree")
    assert study.plan()["extract"] == 4
    for stage in golden["names"].values():
        for name in stage["waited_for"]:
            path = study.folder / "store" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}", encoding="utf-8")
    planned = {rule for rule in study.plan() if rule in COMPUTE}
    assert planned == STATISTICS
