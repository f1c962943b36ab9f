"""
Similarity of parallel items between languages, layer by layer: same place and same shape.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/similarity.nc  (layer, language, language_2)
"""


rule similarity:
    input:
        **with_code("similarity.py"),
        manifest=manifest("activations"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/similarity.nc",
    log:
        "logs/{model}/{dataset}/similarity.log",
    threads: lambda wildcards: REQUESTS.pair_threads(wildcards.get("dataset"))
    resources:
        **asks(mem_mb=(6000, 200), runtime=(120, 5), more_mb=REQUESTS.for_similarity),
    params:
        spec=settings("similarity"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee -i {log:q} >&2)"
