"""
Language subspaces: offsets, within-language and shared subspaces, separability, variance shares.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/subspaces.nc  (layer, language, component)
"""


rule subspaces:
    input:
        manifest=activations,
        **with_code("subspaces.py"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/subspaces.nc",
    params:
        spec=canonical_json(
            dump(STUDY.subspaces)
            | dump(STUDY.statistics, include={"seed", "folds"})
            | {"pivot": STUDY.pivot}
        ),
    log:
        "logs/{model}/{dataset}/subspaces.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "{PYTHON:q} {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee {log:q} >&2)"
