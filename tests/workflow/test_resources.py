"""What jobs ask for, and what is refused before any of them: by dry-run."""

import json
import re
from pathlib import Path

import pytest
from tests.workflow.conftest import ROOT, Study, copy_tree

from isogloss.cost.side_by_side import memory_mb

PAPER = ["--configfile", "config/studies/paper.yaml"]
BY_MODEL = ("extract", "readout", "lens", "steer", "similarity", "subspaces", "vectors")
WITH_GPU = {"extract", "lens", "steer"}

Asked = dict[tuple[str, str], dict[str, int]]


def asked(study: Study, *options: str, device: str = "cuda", cores: int = 32) -> Asked:
    """Threads, memory, time and GPUs in a dry-run, by rule and model."""
    said = list(options) if "--config" in options else [*options, "--config"]
    said.insert(said.index("--config") + 1, f"device={device}")
    done = study.snakemake("--dry-run", "--cores", str(cores), *said)
    assert done.returncode == 0, done.stdout + done.stderr
    requests = {}
    for block in re.findall(r"^(?:local)?rule .*?resources: .*?$", done.stdout, re.M | re.S):
        rule = re.match(r"(?:local)?rule (\S+):", block)
        model = re.search(r"wildcards: .*?model=([^,\s]+)", block)
        threads = re.search(r"^    threads: (\d+)", block, re.M)
        numbers = re.findall(r"\b(mem_mb|runtime|gpu)=(\d+)", block)
        assert rule is not None
        requests[rule[1], model[1] if model else ""] = {
            "threads": int(threads[1]) if threads else 1,
            **{name: int(value) for name, value in numbers},
        }
    return requests


def cluster(**limits: int) -> list[str]:
    return ["--config", f"cluster={json.dumps(limits)}"]


@pytest.fixture(scope="module")
def paper(tree: Study) -> Asked:
    return asked(tree, *PAPER)


def test_every_rule_says_its_threads_and_what_it_asks_for() -> None:
    for path in (ROOT / "rules").glob("*.smk"):
        _, *rules = re.split(r"^ *rule *\w*:$", path.read_text("utf-8"), flags=re.M)
        for block in rules:
            assert re.search(r"^ +threads: ", block, re.M), f"{path}: {block}"
            assert re.search(r"^ +resources:\n +\*\*(?:asks|runs_a_model)\(", block, re.M), (
                f"{path}: {block}"
            )


def test_every_job_asks_for_memory_time_and_gpus(paper: Asked) -> None:
    for (rule, model), request in paper.items():
        assert set(request) == {"threads", "mem_mb", "runtime", "gpu"} or rule == "all", rule
        if rule != "all":
            assert request["mem_mb"] >= 1000 and request["runtime"] >= 10, (rule, model)
            assert request["gpu"] == (rule in WITH_GPU), (rule, model)


@pytest.mark.parametrize("rule", BY_MODEL)
def test_a_larger_model_asks_for_more(paper: Asked, rule: str) -> None:
    small, large = paper[rule, "qwen-2.5-0.5b"], paper[rule, "qwen-2.5-32b"]
    assert large["mem_mb"] > small["mem_mb"] and large["runtime"] > small["runtime"]


def test_a_job_that_holds_a_model_has_memory_for_its_weights_in_float32(paper: Asked) -> None:
    for rule in ("extract", "readout", "steer"):
        assert paper[rule, "gemma-2-27b"]["mem_mb"] > 27_227 * 4


def test_similarity_has_memory_for_what_grows_with_announced_items(tree: Study) -> None:
    shape = {"items": 4000, "choices": 2, "prompt_words": 9, "choice_words": 1}
    both = {"datasets": {"everyday": shape, "lexicon": shape}}
    options = ["--config", f"estimate={json.dumps(both)}"]
    few, many = asked(tree), asked(tree, *options)
    for key, request in many.items():
        more = request.get("mem_mb", 0) - few[key].get("mem_mb", 0)
        # Ten languages, 4,000 items: 100 pairs by item, of 64 bytes; 1198 orders of 3.
        assert more == {"similarity": 170}.get(key[0], 0), key
    large = ["--config", 'similarity={"memory_gb": 90}']
    assert asked(tree, *large)["similarity", "gemma-3-270m"]["mem_mb"] > 90_000
    refused = tree.snakemake("--dry-run", *large, *cluster(max_mem_mb=70_000)[1:])
    assert "error: similarity of gemma-3-270m asks for mem_mb=" in refused.stderr


def test_a_further_attempt_asks_for_more_but_not_above_the_limit(tree: Study) -> None:
    third = [*cluster(max_mem_mb=10_000, max_runtime=600), "--attempt", "3"]
    first, last = asked(tree), asked(tree, *third)
    for key, request in first.items():
        if key[0] != "all":
            assert last[key]["mem_mb"] == min(request["mem_mb"] * 2, 10_000), key
            assert last[key]["runtime"] == min(request["runtime"] * 3, 600), key


def test_gpus_and_threads_are_settings(tree: Study) -> None:
    none = asked(tree, *PAPER, *cluster(gpus=0, max_threads=4))
    assert {r["gpu"] for r in none.values() if r.get("gpu") is not None} == {0}
    assert max(r["threads"] for r in none.values()) == 4
    split = asked(tree, *PAPER, *cluster(gpu_mem_mb=40_000, max_gpus=4), "--resources", "gpu=8")
    assert split["extract", "gemma-2-27b"]["gpu"] == 2 and split["lens", "gemma-2-27b"]["gpu"] == 1
    assert split["extract", "gemma-2-2b"]["gpu"] == 1


def test_what_the_longest_jobs_wait_for_comes_first(tree: Study) -> None:
    """Started as they come, a model was extracted last, and its steering ended alone."""
    done = tree.snakemake("--dry-run", "--cores", "2", "--config", "device=cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    first: dict[tuple[str, str], int] = {}
    for block in re.findall(r"^rule .*?resources: .*?$", done.stdout, re.M | re.S):
        dataset = re.search(r"wildcards: .*?dataset=([^,\s]+)", block)
        rule, priority = re.match(r"rule (\S+):", block), re.search(r"priority: (\d+)", block)
        assert rule is not None
        of_rule = (rule[1], dataset[1] if dataset else "")
        first[of_rule] = int(priority[1]) if priority else 0
    steered, other = first["extract", "everyday"], first["extract", "lexicon"]
    assert first["steer", "everyday"] > steered > other > first["lens", "lexicon"]
    assert first["lens", "everyday"] > 8 * first["subspaces", "everyday"]


MEMORY_FOR_TWO = pytest.mark.skipif(
    memory_mb() < 13_000, reason="two jobs of the default study do not fit into this memory"
)


def of_steering(requests: Asked) -> set[tuple[int, int]]:
    """Threads and GPUs that steering asks for."""
    return {(r["threads"], r["gpu"]) for (rule, _), r in requests.items() if rule == "steer"}


@MEMORY_FOR_TWO
@pytest.mark.parametrize(
    ("cores", "threads", "gpu"),
    [(2, 1, 0), (3, 3, 1), (4, 2, 0), (64, 8, 0)],
    ids=["a-core-each", "not-shared-evenly", "two-cores-each", "no-more-threads-than-help"],
)
def test_on_processors_two_models_share_the_cores(
    tree: Study, cores: int, threads: int, gpu: int
) -> None:
    assert of_steering(asked(tree, device="cpu", cores=cores)) == {(threads, gpu)}


@MEMORY_FOR_TWO
def test_the_limit_of_threads_holds_on_processors_too(tree: Study) -> None:
    assert of_steering(asked(tree, *cluster(max_threads=3), device="cpu")) == {(3, 0)}


def test_measures_of_many_languages_have_the_threads_of_a_model(tree: Study) -> None:
    many = asked(tree, "--configfile", "config/studies/belebele-plan.yaml", *cluster(max_threads=6))
    few = asked(tree, *cluster(max_threads=6))
    for rule in ("similarity", "subspaces"):
        assert {r["threads"] for (name, _), r in many.items() if name == rule} == {6}
        assert {r["threads"] for (name, _), r in few.items() if name == rule} == {1}


def test_on_a_cluster_a_model_has_its_gpu_and_threads(tree: Study) -> None:
    there = ("--workflow-profile", "profiles/slurm")
    assert of_steering(asked(tree, *there, device="cpu", cores=64)) == {(8, 1)}


@MEMORY_FOR_TWO
def test_what_is_left_of_a_rule_shares_the_cores(tmp_path: Path) -> None:
    """Of two models one has been steered: the other takes all cores."""
    study = copy_tree(tmp_path / "tree")
    plan = study.snakemake("--dry-run", "--cores", "2", "--config", "device=cpu").stdout
    made = re.search(r"output: (\S+/smollm2\S+/steered-\S+\.json)", plan)
    assert made is not None
    assert of_steering(asked(study, device="cpu", cores=2)) == {(1, 0)}
    (study.folder / made[1]).parent.mkdir(parents=True)
    (study.folder / made[1]).write_text("{}", "utf-8")
    left = asked(study, device="cpu", cores=2)["steer", "gemma-3-270m"]
    assert (left["threads"], left["gpu"]) == (2, 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (cluster(max_mem_mb=100_000), "readout of gemma-2-27b asks for mem_mb=220818"),
        (cluster(max_runtime=500), "extract of gemma-2-9b asks for runtime="),
        (cluster(gpu_mem_mb=40_000, max_gpus=1), "extract of gemma-2-27b asks for gpu=2"),
        (cluster(gpu_mem_mb=10_000), "models.gemma-2-9b: needs 24029 MB on one GPU"),
        (
            [*cluster(max_mem_mb=300_000), "--set-resources", "scale:mem_mb=200000*attempt"],
            "scale asks for mem_mb=400000, but cluster.max_mem_mb is 300000",
        ),
    ],
    ids=["memory", "time", "gpus", "gpu-memory", "own-request"],
)
def test_what_no_node_can_meet_is_refused_in_one_line(
    tree: Study, options: list[str], named: str
) -> None:
    done = tree.snakemake("--cores", "8", "--resources", "gpu=8", *PAPER, *options)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(said) == 1 and named in said[0], done.stderr
    assert "Traceback" not in done.stderr and not (tree.folder / "store").exists()


def test_the_remedy_that_the_line_names_works(tree: Study) -> None:
    limit = cluster(max_mem_mb=6100)
    refused = tree.snakemake("--dry-run", *limit)
    remedy = re.search(r"--set-resources (\S+)$", refused.stderr, re.M)
    assert refused.returncode == 1 and remedy is not None and remedy[1] == "lens:mem_mb=6100"
    assert (
        asked(tree, *limit, "--set-resources", remedy[1])["lens", "gemma-3-270m"]["mem_mb"] == 6100
    )


def test_limits_can_be_part_of_the_profile(tmp_path: Path) -> None:
    """With the profile's own comments as they stand, uncommented."""
    study = copy_tree(tmp_path / "tree")
    path = study.folder / "profiles/slurm/config.yaml"
    text = re.sub(r"^# (config:|  - )", r"\1", path.read_text("utf-8"), flags=re.M)
    path.write_text(text, "utf-8")
    profile = ("--dry-run", "--workflow-profile", "profiles/slurm")
    assert study.snakemake(*profile).returncode == 0
    path.write_text(text.replace("max_mem_mb: 500000", "max_mem_mb: 4000"), "utf-8")
    refused = study.snakemake(*profile)
    assert refused.returncode == 1 and "cluster.max_mem_mb is 4000" in refused.stderr
