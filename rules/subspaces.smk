"""
Language subspaces: offsets, within-language and shared subspaces, separability, variance shares.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/subspaces.nc  (layer, language, component)
"""


rule subspaces:
    input:
        **with_code("subspaces.py"),
        manifest=manifest("activations"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/subspaces.nc",
    log:
        "logs/{model}/{dataset}/subspaces.log",
    priority: 50  # the longest of the small jobs: begun last, it would end alone
    threads: lambda wildcards: REQUESTS.pair_threads(wildcards.get("dataset"))
    resources:
        **asks(mem_mb=(6000, 200), runtime=(120, 5)),
    params:
        spec=settings("subspaces"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee -i {log:q} >&2)"
