"""
Logit lens: latent log-probabilities of the choices at every stored layer, and their trajectories.

Requires: activation files with rows (activations.smk), the readout (models.smk).
Gives:    {store}/lens/{model}/{dataset}/{language}/{key}.nc and the manifest that lists them;
          {results}/{model}/{dataset}/trajectories.nc  (language, latent, layer)
"""


rule lens:
    input:
        manifest=manifest("activations"),
        readout=lambda w: f"{STORE}/{ARTIFACTS.readout(w.model).name}",
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/lens-{{key}}.json",
    log:
        "logs/{model}/{dataset}/lens-{key}.log",
    priority: HEAVY_FIRST
    threads: threads_of("lens")
    resources:
        **runs_a_model("lens", runtime=(240, 30)),
    params:
        spec=settings("lens", "model", "dataset"),
        machine=on_this_machine("store", "sharing", "device"),
    shell:
        "python workflow_scripts/lens.py --spec {params.spec:q}"
        " {params.machine} --readout {input.readout:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee -i {log:q} >&2)"


rule trajectories:
    input:
        **with_code("trajectories.py"),
        manifest=manifest("lens"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/trajectories.nc",
    log:
        "logs/{model}/{dataset}/trajectories.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(60, 0)),
    params:
        spec=settings("trajectories"),
    shell:
        "python {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee -i {log:q} >&2)"
