"""
Steering across datasets: vectors of each dataset, evaluated on each.

Requires: steering_<fitted>.nc of every pair (steering.smk); no rules where there is one pair.
Gives:    {results}/steering_matrix.nc  (model, fitted, dataset);
          {results}/scale/figures/steering_matrix.{pdf,png,csv,rst}
"""

if STUDY.with_matrix:

    # Seconds, as the other figures of all models.
    localrules:
        steering_matrix,
        figures_matrix,

    rule steering_matrix:
        input:
            **with_code("steering_matrix.py"),
            effects=[
                f"{RESULTS}/{model}/{dataset}/steering_{fitted}.nc"
                for model in STUDY.models
                for fitted in STUDY.steering.fit_on
                for dataset in STUDY.steering.evaluate_on
            ],
        output:
            f"{RESULTS}/steering_matrix.nc",
        log:
            "logs/steering_matrix.log",
        threads: 1
        resources:
            **asks(mem_mb=(1000, 0), runtime=(10, 0)),
        params:
            spec=in_the_report("steering_matrix"),
        shell:
            "python {input.program} --spec {params.spec:q} --output {output:q}"
            " {input.effects:q} 2> >(tee -i {log:q} >&2)"

    rule figures_matrix:
        input:
            **with_code("figures.py"),
            matrix=f"{RESULTS}/steering_matrix.nc",
        output:
            files_of(matrix_figures(STUDY)),
        log:
            "logs/scale/figures_matrix.log",
        threads: 1
        resources:
            **asks(mem_mb=(2000, 0), runtime=(30, 0)),
        params:
            spec=in_the_report("figures_scale"),
            folder=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "python {input.program} --spec {params.spec:q} --folder {params.folder:q}"
            " --matrix {input.matrix:q} 2> >(tee -i {log:q} >&2)"
