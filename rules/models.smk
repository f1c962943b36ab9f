"""
Models: what the lens needs of them, and filling the caches ahead of time.

Requires: a registry of models in the configuration; the network, where a model is not cached.
Gives:    {store}/readouts/{model}/{key}.safetensors  (final norm and unembedding)
          `snakemake download`: every model of the study in the local cache.
"""


def readout_slice(model: str) -> dict:
    """What a readout depends on."""
    return {
        "slug": model,
        "model": dump(STUDY.models[model], exclude={"family", "parameters"}),
        "readout_version": 1,
    }


def readout(wildcards) -> str:
    key = key_of(readout_slice(wildcards.model))[:16]
    return f"{STORE}/readouts/{wildcards.model}/{key}.safetensors"


rule readout:
    output:
        f"{STORE}/readouts/{{model}}/{{key}}.safetensors",
    params:
        spec=lambda w: canonical_json(readout_slice(w.model)),
    log:
        "logs/{model}/readout-{key}.log",
    threads: 1
    resources:
        mem_mb=model_resources,
        runtime=60,
    shell:
        "{PYTHON:q} {PROGRAMS}/readout.py --spec {params.spec:q} --cache {CACHE:q}"
        " --output {output:q} 2> >(tee {log:q} >&2)"


localrules:
    download,


rule download:
    params:
        specs=[canonical_json(readout_slice(model)) for model in STUDY.models],
    log:
        "logs/download.log",
    shell:
        "{PYTHON:q} {PROGRAMS}/download.py --cache {CACHE:q} {params.specs:q}"
        " 2> >(tee {log:q} >&2)"
