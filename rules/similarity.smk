"""
Similarity of parallel items between languages, layer by layer: same place and same shape.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/similarity.nc  (layer, language, language_2)
"""


rule similarity:
    input:
        manifest=activations,
        **with_code("similarity.py"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/similarity.nc",
    params:
        spec=canonical_json(
            dump(STUDY.similarity)
            | dump(STUDY.statistics, include={"seed", "confidence"})
            | {"pivot": STUDY.pivot}
        ),
    log:
        "logs/{model}/{dataset}/similarity.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "{PYTHON:q} {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee {log:q} >&2)"
