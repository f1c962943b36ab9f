"""
Behaviour: accuracy, consistency and transfer between languages.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/behaviour.nc  (language, language_2, score, ...)
"""


rule behaviour:
    input:
        manifest=activations,
        **with_code("behaviour.py"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/behaviour.nc",
    params:
        spec=canonical_json(
            dump(STUDY.behaviour) | dump(STUDY.statistics, exclude={"folds"})
        ),
    log:
        "logs/{model}/{dataset}/behaviour.log",
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "{PYTHON:q} {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee {log:q} >&2)"
