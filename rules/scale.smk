"""
Scale: the models of the study side by side, one file a dataset with choices.

Requires: similarity.nc, behaviour.nc and activation files of every model.
Gives:    {results}/scale/{dataset}.nc  (model, measure; family, measure)
"""


rule scale:
    input:
        **with_code("scale.py"),
        manifests=lambda w: [
            manifest("activations", m, w.dataset, SLICES.extraction(m, w.dataset))
            for m in STUDY.models
        ],
        similarity=of_every_model("similarity"),
        behaviour=of_every_model("behaviour"),
    output:
        f"{RESULTS}/scale/{{dataset}}.nc",
    log:
        "logs/scale/{dataset}.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(60, 0)),
    params:
        spec=lambda w: canonical_json(
            {
                "models": [
                    {
                        "slug": slug,
                        "family": model.family,
                        "parameters": model.parameters,
                    }
                    for slug, model in STUDY.models.items()
                ],
                "permutations": STUDY.similarity.permutations,
                **dump(STUDY.statistics, include={"seed", "confidence"}),
            }
        ),
    shell:
        "python {input.program} --spec {params.spec:q} --manifests {input.manifests:q}"
        " --similarity {input.similarity:q} --behaviour {input.behaviour:q}"
        " --output {output:q} 2> >(tee -i {log:q} >&2)"
