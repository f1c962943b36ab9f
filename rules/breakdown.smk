"""
Breakdown: results by category of the items, and by script, family and resources of the languages.

Requires: activation files (activations.smk); steered scores (steering.smk), where there are any.
Gives:    {results}/{model}/{dataset}/breakdown.nc  (group, language, fitted)
"""


rule breakdown:
    input:
        **with_code("breakdown.py"),
        manifest=manifest("activations"),
        questions=given(FILES.questions, "dataset"),
        steered=lambda w: [
            FILES.manifest("steered", w.model, fitted, w.dataset)
            for fitted in STUDY.fitted_for(w.dataset)
        ],
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/breakdown.nc",
    log:
        "logs/{model}/{dataset}/breakdown.log",
    threads: 1
    resources:
        **asks(mem_mb=(4000, 200), runtime=(60, 5)),
    params:
        spec=settings("breakdown", "dataset"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " --steered {input.steered:q} -- {input.manifest:q} 2> >(tee -i {log:q} >&2)"
