"""
Extraction, once: hidden states and scores of every question.

Requires: the datasets' files; models, resolved by the program (local cache or download), organisms
          once they are trained (models.smk).
Gives:    {store}/activations/{model}/{dataset}/{language}/{key}.h5, not declared as outputs, so
          that no run deletes them; {store}/manifests/{model}/{dataset}/activations-{key}.json
          lists them. Languages that the store has are not computed again. Each wording of the
          questions (prompt.variants) is a job and a manifest of its own. With
          `cluster.jobs_per_model` above 1 so many jobs (`extract_part`) share the languages, and
          `extract` lists what they made.
"""

SHARED_OUT = STUDY.cluster.jobs_per_model > 1
EXTRACTED = f"{STORE}/manifests/{{model}}/{{dataset}}/activations-{{key}}"


def parts(wildcards) -> list[str]:
    """An input: the lists of the jobs that share the languages; none where one job does all."""
    jobs = min(STUDY.cluster.jobs_per_model, len(STUDY.languages_of(wildcards.dataset)))
    numbers = (
        [f"{number}-of-{jobs}" for number in range(1, jobs + 1)] if SHARED_OUT else []
    )
    return expand(f"{EXTRACTED}.{{part}}.json", part=numbers, **wildcards)


def extraction_spec(wildcards) -> str:
    """A parameter: the settings of a wording's activation files."""
    return canonical_json(SETTINGS.activations(*wording(wildcards)))


EXTRACTION_OPTIONS = (
    "store",
    "sharing",
    "cache",
    "device",
    "batch-tokens",
    "precision-items",
    "folds",
)


rule extract:
    input:
        question_files,
        checkpoint,
        parts,
    output:
        f"{EXTRACTED}.json",
    log:
        "logs/{model}/{dataset}/extract-{key}.log",
    priority: HEAVY_FIRST
    threads: 1 if SHARED_OUT else threads_of("extract")
    resources:
        **runs_a_model("activations", of=wording, runtime=(240, 30), gathers=SHARED_OUT),
    params:
        spec=extraction_spec,
        machine=on_this_machine(
            *EXTRACTION_OPTIONS,
            more=lambda wildcards: " --gather" if SHARED_OUT else "",
        ),
    shell:
        "python workflow_scripts/extract.py --spec {params.spec:q}"
        " {params.machine} --output {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule extract_part:
    input:
        question_files,
        checkpoint,
    output:
        temp(f"{EXTRACTED}.{{part}}.json"),
    log:
        "logs/{model}/{dataset}/extract-{key}-{part}.log",
    priority: HEAVY_FIRST
    threads: threads_of("extract")
    resources:
        **runs_a_model("activations", of=wording, runtime=(240, 30)),
    params:
        spec=extraction_spec,
        machine=on_this_machine(
            *EXTRACTION_OPTIONS, more=lambda wildcards: f" --part={wildcards.part}"
        ),
    shell:
        "python workflow_scripts/extract.py --spec {params.spec:q}"
        " {params.machine} --output {output:q}"
        " 2> >(tee -i {log:q} >&2)"
