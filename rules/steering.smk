"""
Steering towards the shared space: vectors, steered evaluation, effects.

Requires: activation files of the datasets that vectors are fitted on and evaluated on.
Gives:    {store}/vectors/{model}/{fitted}/all/{key}.nc and its manifest;
          {store}/steered/{model}/{fitted}.{dataset}/{language}/{key}.nc and their manifest;
          {results}/{model}/{dataset}/steering_{fitted}.nc  (language, method, control, ...)
"""


rule vectors:
    input:
        manifest=manifest("activations"),
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/vectors-{{key}}.json",
    log:
        "logs/{model}/{dataset}/vectors-{key}.log",
    priority: HEAVY_FIRST + 3  # steering waits for them
    threads: 1
    resources:
        **asks(mem_mb=(4000, 200), runtime=(60, 5)),
    params:
        spec=settings("vectors", "model", "dataset"),
        machine=on_this_machine("store", "sharing"),
    shell:
        "python workflow_scripts/vectors.py --spec {params.spec:q} {params.machine}"
        " --output {output:q} {input.manifest:q} 2> >(tee -i {log:q} >&2)"


rule steer:
    input:
        activations=manifest("activations"),
        vectors=manifest("vectors", "model", "fitted"),
        checkpoint=given(FILES.checkpoint, "model"),
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/steered-{{fitted}}-{{key}}.json",
    log:
        "logs/{model}/{dataset}/steer-{fitted}-{key}.log",
    priority: HEAVY_FIRST + 3  # the longest: what else there is runs beside it
    threads: threads_of("steer")
    resources:
        **runs_a_model(
            "steered", values_of("model", "fitted", "dataset"), runtime=(480, 30)
        ),
    params:
        spec=settings("steered", "model", "fitted", "dataset"),
        machine=on_this_machine("store", "sharing", "cache", "device", "batch-tokens"),
    shell:
        "python workflow_scripts/steer.py --spec {params.spec:q}"
        " {params.machine} --vectors {input.vectors:q}"
        " --output {output:q} {input.activations:q} 2> >(tee -i {log:q} >&2)"


rule steering_effects:
    input:
        **with_code("steering_effects.py"),
        activations=manifest("activations"),
        steered=manifest("steered", "model", "fitted", "dataset"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/steering_{{fitted}}.nc",
    log:
        "logs/{model}/{dataset}/steering_{fitted}.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(60, 0)),
    params:
        spec=settings("steering_effects"),
    shell:
        "python {input.program} --spec {params.spec:q} --activations {input.activations:q}"
        " --output {output:q} {input.steered:q} 2> >(tee -i {log:q} >&2)"
