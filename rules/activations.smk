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

WORDING = ("model", "dataset", "wording")
# Steering, the longest, waits for some: were they last, it would end alone.
STEERED = {name for pair in STUDY.steered_pairs for name in pair}
STEERED_FIRST = lambda wildcards: HEAVY_FIRST + 1 + (wildcards.dataset in STEERED)
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
        given(FILES.questions, "dataset"),
        given(FILES.checkpoint, "model"),
        given(FILES.parts, "model", "dataset", "key"),
    output:
        f"{EXTRACTED}.json",
    log:
        "logs/{model}/{dataset}/extract-{key}.log",
    priority: STEERED_FIRST
    threads: 1 if SHARED_OUT else threads_of("extract")
    resources:
        **runs_a_model(
            "activations",
            of=values_of(*WORDING),
            runtime=(240, 30),
            gathers=SHARED_OUT,
        ),
    params:
        spec=settings("activations", *WORDING),
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
        given(FILES.questions, "dataset"),
        given(FILES.checkpoint, "model"),
    output:
        temp(f"{EXTRACTED}.{{part}}.json"),
    log:
        "logs/{model}/{dataset}/extract-{key}-{part}.log",
    priority: STEERED_FIRST
    threads: threads_of("extract")
    resources:
        **runs_a_model("activations", of=values_of(*WORDING), runtime=(240, 30)),
    params:
        spec=settings("activations", *WORDING),
        machine=on_this_machine(
            *EXTRACTION_OPTIONS, more=lambda wildcards: f" --part={wildcards.part}"
        ),
    shell:
        "python workflow_scripts/extract.py --spec {params.spec:q}"
        " {params.machine} --output {output:q}"
        " 2> >(tee -i {log:q} >&2)"
