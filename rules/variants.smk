"""
Variants: how far a language agrees with itself under another wording of the questions.

Requires: activation files of every wording (activations.smk).
Gives:    {results}/{model}/{dataset}/variants.nc  (variant, language, language_2, layer)
"""


rule variants:
    input:
        **with_code("variants.py"),
        manifests=given(FILES.wordings),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/variants.nc",
    log:
        "logs/{model}/{dataset}/variants.log",
    threads: 1
    resources:
        **asks(mem_mb=(6000, 200), runtime=(120, 5), more_mb=REQUESTS.wordings),
    params:
        spec=settings("variants", "dataset"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifests:q} 2> >(tee -i {log:q} >&2)"
