"""
Pivots: every language of the study's `pivots` in the pivot's place.

Requires: activation files (activations.smk), which do not depend on it.
Gives:    {results}/{model}/{dataset}/pivots.nc  (pivot, language)
"""


rule pivots:
    input:
        **with_code("pivots.py"),
        manifest=manifest("activations"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/pivots.nc",
    log:
        "logs/{model}/{dataset}/pivots.log",
    threads: 1
    resources:
        **asks(mem_mb=(4000, 200), runtime=(60, 5)),
    params:
        spec=settings("pivots", "dataset"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee -i {log:q} >&2)"
