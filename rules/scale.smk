"""
Scale: the models of the study side by side, one file per dataset with choices.

Requires: similarity.nc, behaviour.nc and activation files of every model.
Gives:    {results}/scale/{dataset}.nc  (model, measure; family, measure)
"""


rule scale:
    input:
        **with_code("scale.py"),
        manifests=lambda w: [
            FILES.manifest("activations", m, w.dataset) for m in STUDY.models
        ],
        similarity=expand(
            f"{RESULTS}/{{model}}/{{{{dataset}}}}/similarity.nc", model=STUDY.models
        ),
        behaviour=expand(
            f"{RESULTS}/{{model}}/{{{{dataset}}}}/behaviour.nc", model=STUDY.models
        ),
    output:
        f"{RESULTS}/scale/{{dataset}}.nc",
    log:
        "logs/scale/{dataset}.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(60, 0)),
    params:
        spec=settings("scale"),
    shell:
        "python {input.program} --spec {params.spec:q} --manifests {input.manifests:q}"
        " --similarity {input.similarity:q} --behaviour {input.behaviour:q}"
        " --output {output:q} 2> >(tee -i {log:q} >&2)"
