"""
Similarity of parallel items between languages, layer by layer: same place and same shape.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/similarity.nc  (layer, language, language_2)
"""


rule similarity:
    input:
        **with_code("similarity.py"),
        manifest=activations,
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/similarity.nc",
    log:
        "logs/{model}/{dataset}/similarity.log",
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 6000 * attempt,
        runtime=120,
    params:
        spec=canonical_json(
            dump(STUDY.similarity)
            | dump(STUDY.statistics, include={"seed", "confidence"})
            | {"pivot": STUDY.pivot}
        ),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee {log:q} >&2)"
