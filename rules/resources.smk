"""
What jobs ask for: memory, time, GPUs and threads, by the size of the model and by attempt.

A run on one machine keeps to --cores and to the profile's `gpu: 1`; on its processors jobs that
run a model share the cores, where the memory is enough. On a cluster each request goes to the
scheduler; those that no node can meet are refused here, before any job. No rules here.
"""

from snakemake.iocontainers import InputFiles

from isogloss.cost import requests as cluster
from isogloss.study.keys import Inventory
from isogloss.store.places import place_of
from isogloss.cost.side_by_side import memory_mb, models_at_once, runs_on_processors

CLUSTER = STUDY.cluster
INVENTORY = Inventory(SLICES)
ATTEMPTS = (1, 2, 3)  # profiles/slurm retries twice
HEAVY_THREADS = cluster.model_threads(CLUSTER)  # Snakemake lowers it to --cores
HEAVY_FIRST = 1000  # priority: more than those of 8 small jobs in its place together
MODEL_MB = cluster.MODEL_MB
# A dry-run for a cluster is local too, but has a number of jobs.
ON_PROCESSORS = (
    workflow.is_main_process
    and workflow.local_exec
    and workflow.resource_settings.nodes is None
    and workflow.resource_settings.cores is not None
    and runs_on_processors(STUDY.device)
)

if fault := cluster.too_large_for_a_gpu(STUDY.models, CLUSTER):
    sys.exit(f"error: {fault}")


def asks(mem_mb, runtime, gpu=lambda model: 0, made=None, more_mb=lambda wildcards: 0):
    """The resources of a rule.

    Args:
        mem_mb: memory at the first attempt [MB]: for any model, and for each billion parameters.
        runtime: the same for time [min].
        gpu: GPUs that a model needs.
        made: wildcards -> artifacts of the job: where the shared place has all, it needs no GPU.
        more_mb: wildcards -> memory beyond that of the model [MB].

    Each further attempt asks for half as much memory more and for the first time once more.
    """

    def first(request, wildcards):
        return cluster.by_size(*request, parameters_of(wildcards))

    def memory(wildcards, attempt):
        limit = CLUSTER.max_mem_mb
        asked = first(mem_mb, wildcards) + more_mb(wildcards)
        return cluster.at_attempt(asked, attempt, 0.5, limit)

    def time(wildcards, attempt):
        limit = CLUSTER.max_runtime
        return cluster.at_attempt(first(runtime, wildcards), attempt, 1.0, limit)

    def devices(wildcards):
        if not hasattr(wildcards, "model"):
            return 0
        if (
            made is not None
            and hasattr(wildcards, "key")
            and are_shared(made, wildcards)
        ):
            return 0
        return gpu(STUDY.models[wildcards.model])

    return {"mem_mb": memory, "runtime": time, "gpu": devices}


@functools.cache
def shared() -> frozenset[str]:
    """Names of what the shared place has: one listing, when a job is planned."""
    try:
        place = place_of(STUDY)
        return frozenset(place.names() if place else ())
    except InputError as error:
        print(f"{error} (planned as if nothing were there)", file=sys.stderr)
        return frozenset()


def are_shared(made, wildcards) -> bool:
    """Whether all artifacts of a job only have to be fetched."""
    if not shared():
        return False
    try:
        return all(artifact.name in shared() for artifact in made(wildcards))
    except InputError:
        return False  # questions that are not there yet: the job says so


def parameters_of(wildcards) -> int:
    """Parameters of a job's model; of the largest one, where a job reads all models."""
    if hasattr(wildcards, "model"):
        return STUDY.models[wildcards.model].parameters
    return max(model.parameters for model in STUDY.models.values())


def datasets_of(wildcards):
    """The dataset of a job, all of them where none is named."""
    return [wildcards.dataset] if hasattr(wildcards, "dataset") else STUDY.datasets


def pairs_of_states(wildcards) -> int:
    """Memory for all pairs of a dataset's states [MB]; of the largest one, where none is named.

    Questions are not counted here: how many there are is known where the configuration says it.
    """
    return max(
        cluster.pairs_mb(
            len(STUDY.languages_of(name)), STUDY.announced_items(name) or 0
        )
        for name in datasets_of(wildcards)
    )


def pairs_left_out(wildcards) -> int:
    """Memory of `behaviour` for all pairs of languages, each cluster left out [MB].

    Datasets as above; clusters are counted as items, where these are announced.
    """
    return max(
        cluster.draws_mb(
            len(STUDY.languages_of(name)), 0, STUDY.announced_items(name) or 0
        )
        for name in datasets_of(wildcards)
    )


def model_gpus(model) -> int:
    """GPUs of a job that runs the whole model."""
    return cluster.gpus(model, CLUSTER)


def one_gpu(model) -> int:
    """GPUs of a job that runs a part which fits on one."""
    return min(1, CLUSTER.gpus)


@functools.cache
def room_for_models() -> int:
    """How many jobs of the rules that run models fit into this machine's memory, the largest ones."""
    largest = max(
        cluster.by_size(*request, model.parameters)
        for request in MODEL_MB.values()
        for model in STUDY.models.values()
    )
    return memory_mb() // largest


@functools.cache
def at_once(rule: str) -> int:
    """How many jobs of a rule that runs models start together; 1 on GPUs and on a cluster.

    By the study's manifests that are missing when the Snakefile is read: where one is, its job
    has all cores. A part of a study that is asked for by name counts as the whole.
    """
    if not ON_PROCESSORS:
        return 1
    made = manifests()[rule]
    left = [model for model, file in made if not Path(file).exists()]
    sizes = [
        cluster.by_size(*MODEL_MB[rule], STUDY.models[model].parameters)
        for model in left or [model for model, _ in made]
    ]
    cores = workflow.resource_settings.cores
    return models_at_once(sizes, cores, HEAVY_THREADS, room_for_models())


def threads_of(rule: str):
    """Threads of a job that runs a model: an even share of the cores, up to a limit."""
    return lambda wildcards: (
        min(HEAVY_THREADS, workflow.resource_settings.cores // at_once(rule))
        if ON_PROCESSORS
        else HEAVY_THREADS
    )


def gpus_of(rule: str, needed):
    """GPUs of a job that runs a model; none side by side, which `gpu: 1` would keep apart."""
    return lambda model: 0 if at_once(rule) > 1 else needed(model)


def refuse_what_no_node_can_meet() -> None:
    """End with one line if a rule asks for more than `cluster` has, for any of the models.

    It looks at what Snakemake would submit, --set-resources included.
    """
    for one in workflow.rules:
        for model in STUDY.models if "model" in one.wildcard_names else [None]:
            wildcards = {"model": model} if model else {}
            for attempt in ATTEMPTS:
                asked = dict(
                    one.expand_resources(wildcards, InputFiles(), attempt).items()
                )
                if fault := cluster.refusal(one.name, model, asked, CLUSTER):
                    sys.exit(f"error: {fault}")
