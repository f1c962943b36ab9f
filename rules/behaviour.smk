"""
Behaviour: accuracy, consistency and transfer between languages.

Requires: activation files (activations.smk).
Gives:    {results}/{model}/{dataset}/behaviour.nc  (language, language_2, score, ...)
"""


rule behaviour:
    input:
        **with_code("behaviour.py"),
        manifest=manifest("activations"),
        questions=given(FILES.questions, "dataset"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/behaviour.nc",
    log:
        "logs/{model}/{dataset}/behaviour.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(60, 0)),
    params:
        spec=settings("behaviour", "dataset"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee -i {log:q} >&2)"
