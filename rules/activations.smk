"""
Extraction, once: hidden states and scores of every question.

Requires: the datasets' files; models, resolved by the program (local cache or download).
Gives:    {store}/activations/{model}/{dataset}/{language}/{key}.h5, not declared as outputs, so
          that no run deletes them; {store}/manifests/{model}/{dataset}/activations-{key}.json
          lists them. Languages that the store has are not computed again.
"""


def question_files(wildcards) -> list[str]:
    dataset = STUDY.datasets[wildcards.dataset]
    try:
        return list(map(str, dataset_files(dump(dataset), STUDY.languages_of(wildcards.dataset))))
    except InputError as error:
        sys.exit(f"error: datasets.{wildcards.dataset}: {error}")


rule extract:
    input:
        question_files,
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/activations-{{key}}.json",
    params:
        spec=lambda w: canonical_json(extraction_slice(w.model, w.dataset)),
    log:
        "logs/{model}/{dataset}/extract-{key}.log",
    threads: HEAVY_THREADS
    resources:
        mem_mb=model_resources,
        runtime=lambda w, attempt: 240 * attempt,
        gpu=1,
    shell:
        "{PYTHON:q} {PROGRAMS}/extract.py --spec {params.spec:q} --store {STORE:q}"
        " --cache {CACHE:q} --device {STUDY.device:q}"
        " --batch-tokens {STUDY.extraction.batch_tokens} --output {output:q}"
        " 2> >(tee {log:q} >&2)"
