"""
Verdicts: each claim of the paper, put to the models of the study.

Requires: scale.nc of the study's main dataset and, where something is steered there, the effects of
          steering of every model.
Gives:    {results}/verdicts.nc  (row)
"""

VERDICTS_OF = SETTINGS.verdicts()


rule verdicts:
    input:
        **with_code("verdicts.py"),
        scale=f"{RESULTS}/scale/{VERDICTS_OF['dataset']}.nc",
        steering=[
            f"{RESULTS}/{model}/{VERDICTS_OF['dataset']}/steering_{VERDICTS_OF['fitted']}.nc"
            for model in STUDY.models
            if VERDICTS_OF["fitted"]
        ],
    output:
        f"{RESULTS}/verdicts.nc",
    log:
        "logs/verdicts.log",
    threads: 1
    resources:
        **asks(mem_mb=(1000, 0), runtime=(10, 0)),
    params:
        spec=settings("verdicts"),
    shell:
        "python {input.program} --spec {params.spec:q} --scale {input.scale:q}"
        " --steering {input.steering:q} --output {output:q} 2> >(tee -i {log:q} >&2)"
