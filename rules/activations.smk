"""
Extraction, once: hidden states and scores of every question.

Requires: the datasets' files; models, resolved by the program (local cache or download), organisms
          once they are trained (models.smk).
Gives:    {store}/activations/{model}/{dataset}/{language}/{key}.h5, not declared as outputs, so
          that no run deletes them; {store}/manifests/{model}/{dataset}/activations-{key}.json
          lists them. Languages that the store has are not computed again. Each wording of the
          questions (prompt.variants) is a job and a manifest of its own.
"""


rule extract:
    input:
        question_files,
        checkpoint,
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/activations-{{key}}.json",
    log:
        "logs/{model}/{dataset}/extract-{key}.log",
    priority: HEAVY_FIRST
    threads: threads_of("extract")
    resources:
        **runs_a_model("activations", of=wording, runtime=(240, 30)),
    params:
        spec=lambda wildcards: canonical_json(SETTINGS.activations(*wording(wildcards))),
        machine=on_this_machine(
            "store",
            "sharing",
            "cache",
            "device",
            "batch-tokens",
            "precision-items",
            "folds",
        ),
    shell:
        "python workflow_scripts/extract.py --spec {params.spec:q}"
        " {params.machine} --output {output:q}"
        " 2> >(tee -i {log:q} >&2)"
