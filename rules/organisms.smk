"""
Organisms: what measures make of planted sharing, and what size does where nothing is planted.

Requires: the results of every organism on the world's questions; their checkpoints (models.smk).
Gives:    {results}/organisms/calibration.nc  (model, measure, sharing), where sharing differs;
          {results}/organisms/ladder.nc  (rule, model, measure), where sizes do;
          {results}/organisms/figures/{calibration,ladder}.{png,pdf,csv,rst}
"""

WORLD, ORGANISMS = STUDY.asked_of_the_world, f"{RESULTS}/organisms"
COMPARED = [f"{ORGANISMS}/{f.figure.name}.nc" for f in organism_figures(STUDY)]

if STUDY.planted:
    STEERED_BY = SETTINGS.calibration()["fitted"]

    rule calibration:
        input:
            **with_code("calibration.py"),
            custom=sorted(
                {place.rpartition(":")[0] for place in STUDY.measures.values()}
            ),
            manifests=[FILES.manifest("activations", m, WORLD) for m in STUDY.planted],
            similarity=FILES.of_organisms("similarity"),
            subspaces=FILES.of_organisms("subspaces"),
            behaviour=FILES.of_organisms("behaviour"),
            trajectories=FILES.of_organisms("trajectories") if STUDY.with_lens else [],
            steering=[
                f for n in STEERED_BY for f in FILES.of_organisms(f"steering_{n}")
            ],
        output:
            f"{ORGANISMS}/calibration.nc",
        log:
            "logs/organisms/calibration.log",
        threads: 1
        resources:
            **asks(mem_mb=(2000, 0), runtime=(30, 0)),
        params:
            spec=settings("calibration"),
        shell:
            "python {input.program} --spec {params.spec:q} --manifests {input.manifests:q}"
            " --similarity {input.similarity:q} --subspaces {input.subspaces:q}"
            " --behaviour {input.behaviour:q} --trajectories {input.trajectories:q}"
            " --steering {input.steering:q} --output {output:q} 2> >(tee -i {log:q} >&2)"


if STUDY.rungs:

    rule ladder:
        input:
            **with_code("ladder.py"),
            checkpoints=[f"{STORE}/{ARTIFACTS.organism(m).name}" for m in STUDY.rungs],
        output:
            f"{ORGANISMS}/ladder.nc",
        log:
            "logs/organisms/ladder.log",
        threads: 1
        resources:
            **asks(mem_mb=(2000, 0), runtime=(10, 0)),
        params:
            spec=settings("ladder"),
        shell:
            "python {input.program} --spec {params.spec:q} --output {output:q}"
            " {input.checkpoints:q} 2> >(tee -i {log:q} >&2)"


if COMPARED:

    rule figures_organisms:
        input:
            **with_code("organism_figures.py"),
            results=COMPARED,
        output:
            files_of(organism_figures(STUDY)),
        log:
            "logs/organisms/figures.log",
        threads: 1
        resources:
            **asks(mem_mb=(2000, 0), runtime=(30, 0)),
        params:
            spec=in_the_report("figures_organisms"),
            folder=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "python {input.program} --spec {params.spec:q} --folder {params.folder:q}"
            " {input.results:q} 2> >(tee -i {log:q} >&2)"
