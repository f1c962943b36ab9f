"""
Steering towards the shared space: vectors, steered evaluation, effects.

Requires: activation files of the datasets that vectors are fitted on and evaluated on.
Gives:    {store}/vectors/{model}/{fitted}/all/{key}.nc and its manifest;
          {store}/steered/{model}/{fitted}.{dataset}/{language}/{key}.nc and their manifest;
          {results}/{model}/{dataset}/steering_{fitted}.nc  (language, method, control, ...)
"""


def vectors(wildcards) -> str:
    model, fitted = wildcards.model, wildcards.fitted
    return manifest("vectors", model, fitted, vectors_slice(model, fitted))


def steered(wildcards) -> str:
    model, fitted, dataset = wildcards.model, wildcards.fitted, wildcards.dataset
    content = steer_slice(model, fitted, dataset)
    return manifest(f"steered-{fitted}", model, dataset, content)


rule vectors:
    input:
        manifest=activations,
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/vectors-{{key}}.json",
    params:
        spec=lambda w: canonical_json(vectors_slice(w.model, w.dataset)),
    log:
        "logs/{model}/{dataset}/vectors-{key}.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "{PYTHON:q} {PROGRAMS}/vectors.py --spec {params.spec:q} --store {STORE:q}"
        " --output {output:q} {input.manifest:q} 2> >(tee {log:q} >&2)"


rule steer:
    input:
        activations=activations,
        vectors=vectors,
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/steered-{{fitted}}-{{key}}.json",
    params:
        spec=lambda w: canonical_json(steer_slice(w.model, w.fitted, w.dataset)),
    log:
        "logs/{model}/{dataset}/steer-{fitted}-{key}.log",
    threads: HEAVY_THREADS
    resources:
        mem_mb=model_resources,
        runtime=lambda w, attempt: 480 * attempt,
        gpu=1,
    shell:
        "{PYTHON:q} {PROGRAMS}/steer.py --spec {params.spec:q} --store {STORE:q}"
        " --cache {CACHE:q} --device {STUDY.device:q}"
        " --batch-tokens {STUDY.extraction.batch_tokens} --vectors {input.vectors:q}"
        " --output {output:q} {input.activations:q} 2> >(tee {log:q} >&2)"


rule steering_effects:
    input:
        activations=activations,
        steered=steered,
        **with_code("steering_effects.py"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/steering_{{fitted}}.nc",
    params:
        spec=canonical_json(
            dump(STUDY.behaviour) | dump(STUDY.statistics, exclude={"folds"})
        ),
    log:
        "logs/{model}/{dataset}/steering_{fitted}.log",
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "{PYTHON:q} {input.program} --spec {params.spec:q} --activations {input.activations:q}"
        " --output {output:q} {input.steered:q} 2> >(tee {log:q} >&2)"
