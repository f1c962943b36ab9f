"""
Logit lens: latent log-probabilities of the choices at every stored layer, and their trajectories.

Requires: activation files with rows (activations.smk), the readout (models.smk).
Gives:    {store}/lens/{model}/{dataset}/{language}/{key}.nc and the manifest that lists them;
          {results}/{model}/{dataset}/trajectories.nc  (language, latent, layer)
"""


def lenses(wildcards) -> str:
    model, dataset = wildcards.model, wildcards.dataset
    return manifest("lens", model, dataset, lens_slice(model, dataset))


rule lens:
    input:
        manifest=activations,
        readout=readout,
    output:
        f"{STORE}/manifests/{{model}}/{{dataset}}/lens-{{key}}.json",
    params:
        spec=lambda w: canonical_json(lens_slice(w.model, w.dataset)),
    log:
        "logs/{model}/{dataset}/lens-{key}.log",
    threads: HEAVY_THREADS
    resources:
        mem_mb=model_resources,
        runtime=lambda w, attempt: 240 * attempt,
        gpu=1,
    shell:
        "{PYTHON:q} {PROGRAMS}/lens.py --spec {params.spec:q} --store {STORE:q}"
        " --device {STUDY.device:q} --readout {input.readout:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee {log:q} >&2)"


rule trajectories:
    input:
        manifest=lenses,
        **with_code("trajectories.py"),
    output:
        f"{RESULTS}/{{model}}/{{dataset}}/trajectories.nc",
    params:
        spec=canonical_json(
            dump(STUDY.statistics, exclude={"folds"})
            # Latent log-probabilities are summed or a token; other scores of behaviour: a token.
            | {"score": "sum" if STUDY.behaviour.score == "sum" else "token"}
        ),
    log:
        "logs/{model}/{dataset}/trajectories.log",
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "{PYTHON:q} {input.program} --spec {params.spec:q} --output {output:q}"
        " {input.manifest:q} 2> >(tee {log:q} >&2)"
