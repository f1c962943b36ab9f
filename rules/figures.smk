"""
Figures, their captions and the numbers behind them; the summary of the study.

Requires: behaviour.nc, breakdown.nc, trajectories.nc, similarity.nc, subspaces.nc, steering_*.nc,
          scale.nc, verdicts.nc;
          the manifests of lens and activation files.
Gives:    {results}/{model}/{dataset}/figures/{figure}.{pdf,png,csv,rst},
          {results}/scale/figures/scale_{dataset}.{pdf,png,csv,rst};
          {results}/summary.md, {results}/summary.csv and {results}/config.yaml
"""

import yaml


# Seconds at the end of a study: on a cluster they would wait longer for a node than they take.
localrules:
    figures_scale,
    summary,
    configuration,


# One job per model and dataset: a process of its own for each figure would spend its time starting.
# Those with the most figures first, so that no core waits for a long one at the end.
for MODEL in STUDY.models:
    for DATASET in STUDY.datasets:

        rule:
            name:
                f"figures_{MODEL}@{DATASET}"  # which no slug holds
            input:
                **with_code("figures.py"),
                results=FILES.results(MODEL, DATASET),
                lenses=FILES.lens(MODEL, DATASET),
            output:
                files_of(figures_of_model(STUDY, MODEL, DATASET)),
            log:
                f"logs/{MODEL}/{DATASET}/figures.log",
            priority: len(figures_of_model(STUDY, MODEL, DATASET))
            threads: 1
            resources:
                **asks(mem_mb=(2000, 0), runtime=(30, 0)),
            params:
                spec=in_the_report("figures", MODEL, DATASET),
                folder=lambda wildcards, output: os.path.dirname(output[0]),
            shell:
                "python {input.program} --spec {params.spec:q} --folder {params.folder:q}"
                " --results {input.results:q} --lenses {input.lenses:q}"
                " 2> >(tee -i {log:q} >&2)"


rule figures_scale:
    input:
        **with_code("figures.py"),
        scale=[f"{RESULTS}/scale/{dataset}.nc" for dataset in STUDY.questions],
    output:
        files_of(map(scale_figure, STUDY.questions)),
    log:
        "logs/scale/figures.log",
    threads: 1
    resources:
        **asks(mem_mb=(2000, 0), runtime=(30, 0)),
    params:
        spec=in_the_report("figures_scale"),
        folder=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "python {input.program} --spec {params.spec:q} --folder {params.folder:q}"
        " --scale {input.scale:q} 2> >(tee -i {log:q} >&2)"


rule summary:
    input:
        **with_code("summary.py"),
        manifests=[
            FILES.manifest("activations", m, d)
            for m in STUDY.models
            for d in STUDY.questions
        ],
        results=[
            file
            for m in STUDY.models
            for d in STUDY.questions
            for file in FILES.results(m, d)
            if Path(file).stem != "subspaces"
        ],
        verdicts=[f"{RESULTS}/verdicts.nc"] if STUDY.questions else [],
        organisms=COMPARED,
    output:
        summary=report(
            f"{RESULTS}/summary.md",
            caption="../report/summary.rst",
            category="Summary",
            labels={"figure": "Main table"},
        ),
        table=f"{RESULTS}/summary.csv",
    log:
        "logs/summary.log",
    threads: 1
    resources:
        **asks(mem_mb=(2000, 0), runtime=(30, 0)),
    params:
        spec=in_the_report("summary"),
    shell:
        "python {input.program} --spec {params.spec:q} --table {output.table:q}"
        " --output {output.summary:q} {input.manifests:q} --organisms {input.organisms:q}"
        " 2> >(tee -i {log:q} >&2)"


rule configuration:
    output:
        f"{RESULTS}/config.yaml",
    log:
        "logs/configuration.log",
    threads: 1
    resources:
        **asks(mem_mb=(1000, 0), runtime=(10, 0)),
    params:
        text=as_it_is(
            yaml.safe_dump(
                STUDY.model_dump(mode="json"), sort_keys=False, allow_unicode=True
            )
        ),
    shell:
        "printf '%s' {params.text:q} > {output:q} 2> {log:q}"
