"""
What the study will cost: time, memory, disk and GPU hours of every job, before it runs.

Requires: nothing; what is here already (models, questions, artifacts) makes it more exact.
Gives:    `snakemake estimate`: a table on the terminal. No file is written.
"""


localrules:
    estimate,


rule estimate:
    log:
        "logs/estimate.log",
    threads: 1
    resources:
        **asks(mem_mb=(2000, 0), runtime=(10, 0)),
    params:
        spec=as_it_is(canonical_json(STUDY.model_dump(mode="json"))),
    shell:
        "python workflow_scripts/estimate.py --spec {params.spec:q} 2> >(tee -i {log:q} >&2)"
