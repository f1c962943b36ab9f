"""
What jobs ask for: memory, time, GPUs and threads, by the size of the model and by attempt.

A run on one machine keeps to --cores and to the profile's `gpu: 1`; on its processors jobs that
run a model share the cores, where the memory is enough. On a cluster each request goes to the
scheduler; those that no node can meet are refused here, before any job. How much is asked for is
in `isogloss.cost.requests`. No rules here.
"""

from snakemake.iocontainers import InputFiles

from isogloss.cost.requests import MODEL_MB, Requests, refusal, too_large_for_a_gpu
from isogloss.cost.side_by_side import runs_on_processors

REQUESTS = Requests(STUDY, MANIFESTS, ARTIFACTS)
ATTEMPTS = (1, 2, 3)  # profiles/slurm retries twice
HEAVY_FIRST = 1000  # priority: more than those of 8 small jobs in its place together
# A dry-run for a cluster is local too, but has a number of jobs.
ON_PROCESSORS = (
    workflow.is_main_process
    and workflow.local_exec
    and workflow.resource_settings.nodes is None
    and workflow.resource_settings.cores is not None
    and runs_on_processors(STUDY.device)
)

if fault := too_large_for_a_gpu(STUDY.models, STUDY.cluster):
    sys.exit(f"error: {fault}")


def asks(
    mem_mb, runtime, more_mb=lambda dataset: 0, runs=None, of=values_of(), gathers=False
):
    """The resources of a rule.

    Args:
        mem_mb: memory at the first attempt [MB]: for any model, and for each billion parameters.
        runtime: the same for time [min].
        more_mb: dataset -> memory beyond that of the model [MB].
        runs: the stage, where a model is run that may need a GPU.
        of: wildcards -> what the stage is of: model, dataset and so on.
        gathers: whether it only lists what other jobs made.
    """

    if gathers:
        mem_mb, runs = (mem_mb[0], 0), None

    def memory(wildcards, attempt):
        more = more_mb(wildcards.get("dataset"))
        return REQUESTS.mem_mb(mem_mb, attempt, wildcards.get("model"), more)

    def devices(wildcards):
        if runs is None or at_once(STAGES[runs].rule) > 1:  # `gpu: 1` would part them
            return 0
        if wildcards.get("key") and REQUESTS.are_shared(runs, of(wildcards)):
            return 0
        return REQUESTS.gpus(STAGES[runs].rule, wildcards.model)

    time = lambda w, attempt: REQUESTS.runtime(runtime, attempt, w.get("model"))
    return {"mem_mb": memory, "runtime": time, "gpu": devices}


def refuse_what_would_end_the_run() -> None:
    """In a dry-run that has something to extract: name what a run would stop at, a line each."""
    from isogloss.preflight import faults_before_extraction

    if faults := faults_before_extraction(REQUESTS):
        sys.exit("\n".join(f"error: {fault}" for fault in faults))


def runs_a_model(stage: str, of=values_of(), *, runtime, gathers=False):
    """The resources of a rule that runs a model, as `asks`."""
    memory = MODEL_MB[STAGES[stage].rule]
    return asks(memory, runtime, runs=stage, of=of, gathers=gathers)


@functools.cache
def at_once(rule: str) -> int:
    """How many jobs of a rule that runs models start together; 1 on GPUs and on a cluster."""
    cores = workflow.resource_settings.cores
    return REQUESTS.jobs_at_once(rule, cores) if ON_PROCESSORS else 1


def threads_of(rule: str):
    """Threads of a job that runs a model: an even share of the cores, up to a limit."""
    limit = REQUESTS.model_threads  # Snakemake lowers it to --cores
    cores = workflow.resource_settings.cores
    return lambda _: min(limit, cores // at_once(rule)) if ON_PROCESSORS else limit


def refuse_what_no_node_can_meet() -> None:
    """End with one line if a rule asks for more than `cluster` has, for any of the models.

    It looks at what Snakemake would submit, --set-resources included.
    """
    for submitted in workflow.rules:
        name, of_model = submitted.name, "model" in submitted.wildcard_names
        for model in REQUESTS.models_of(name) if of_model else [None]:
            wildcards = {"model": model} if model else {}
            for attempt in ATTEMPTS:
                asked = submitted.expand_resources(wildcards, InputFiles(), attempt)
                if fault := refusal(name, model, dict(asked.items()), STUDY.cluster):
                    sys.exit(f"error: {fault}")


SHARED_OUT = STUDY.cluster.jobs_per_model > 1
EXTRACTED = f"{STORE}/manifests/{{model}}/{{dataset}}/activations-{{key}}"
