"""
What the study will cost: time, memory, disk and GPU hours of every job, before it runs.

Requires: nothing; what is here already (models, questions, artifacts) makes it more exact.
Gives:    `snakemake estimate`: a table on the terminal. No file is written.
"""

import snakemake_logger_plugin_isogloss as run_log

WHOLE_STUDY = canonical_json(STUDY.model_dump(mode="json"))
# For the share of a run that is done, which no rate of this very machine is needed for.
run_log.estimate = [
    sys.executable,
    str(PROGRAMS / "estimate.py"),
    "--json",
    *("--machine", "h100" if STUDY.device.startswith("cuda") else "cpu"),
    *("--spec", WHOLE_STUDY),
]


localrules:
    estimate,


rule estimate:
    log:
        "logs/estimate.log",
    threads: 1
    resources:
        **asks(mem_mb=(2000, 0), runtime=(10, 0)),
    params:
        spec=as_it_is(WHOLE_STUDY),
    shell:
        "python workflow_scripts/estimate.py --spec {params.spec:q} 2> >(tee -i {log:q} >&2)"
