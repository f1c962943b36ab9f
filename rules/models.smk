"""
Models: training organisms, what the lens needs of any, and filling the caches ahead of time.

Requires: a registry of models in the configuration; the network, where a model is not cached.
Gives:    {store}/organisms/{model}/{key}.safetensors  (checkpoints of models trained here)
          {store}/readouts/{model}/{key}.safetensors  (final norm and unembedding)
          `snakemake download`: every model of the study in the local cache, but those trained here.
"""


rule train:
    output:
        f"{STORE}/organisms/{{model}}/{{key}}.safetensors",
    log:
        "logs/{model}/train-{key}.log",
    priority: HEAVY_FIRST + 4  # everything else about an organism waits for it
    threads: 1
    resources:
        **asks(mem_mb=(2000, 16000), runtime=(120, 60)),
    params:
        # As in `readout`: the file's name says what it depends on.
        spec=lambda wildcards, output: canonical_json(
            SETTINGS.organism(wildcards.model)
        ),
        machine=on_this_machine("store", "sharing", "cache"),
    shell:
        "python workflow_scripts/train.py --spec {params.spec:q} {params.machine}"
        " 2> >(tee -i {log:q} >&2)"


rule readout:
    input:
        given(FILES.checkpoint, "model"),
    output:
        f"{STORE}/readouts/{{model}}/{{key}}.safetensors",
    log:
        "logs/{model}/readout-{key}.log",
    priority: HEAVY_FIRST + 3  # it fetches and converts a model on one core, beside the others
    threads: 1
    resources:
        **asks(mem_mb=(3000, 8000), runtime=(60, 10)),
    params:
        # A function of `output` is not compared: the file's name says what it depends on, and
        # Snakemake would delete it where the model merely lies elsewhere.
        spec=lambda wildcards, output: canonical_json(SETTINGS.fetched(wildcards.model)),
        machine=on_this_machine("store", "sharing", "cache"),
    shell:
        "python workflow_scripts/readout.py --spec {params.spec:q} {params.machine}"
        " 2> >(tee -i {log:q} >&2)"


localrules:
    download,


rule download:
    log:
        "logs/download.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(60, 0)),
    params:
        specs=lambda w: [
            canonical_json(SETTINGS.fetched(m))
            for m, model in STUDY.models.items()
            if not model.organism
        ],
        datasets=lambda w: list(map(canonical_json, SETTINGS.downloads())),
        machine=on_this_machine("cache"),
    shell:
        "python workflow_scripts/download.py {params.specs:q}"
        " --datasets {params.datasets:q} {params.machine} 2> >(tee -i {log:q} >&2)"
