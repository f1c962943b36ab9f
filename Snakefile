"""
Isogloss: at which layers, for which languages and at which sizes does a multilingual model stop
working in a representation that its languages share?

Requires: config/config.yaml, or another study with --configfile config/studies/X.yaml.
Gives:    figures, tables and summary.md in the study's results folder.
"""

from snakemake.utils import min_version

min_version("9.27")

if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/models.smk"
include: "rules/activations.smk"
include: "rules/behaviour.smk"
include: "rules/lens.smk"
include: "rules/subspaces.smk"
include: "rules/similarity.smk"
include: "rules/steering.smk"
include: "rules/variants.smk"
include: "rules/breakdown.smk"
include: "rules/scale.smk"
include: "rules/verdicts.smk"
include: "rules/figure_files.smk"
include: "rules/figures.smk"
include: "rules/matrix.smk"
include: "rules/estimate.smk"


rule all:
    default_target: True
    input:
        all_figures(),
        [f"{STORE}/{name}" for name in MANIFESTS],
        f"{RESULTS}/summary.md",
        f"{RESULTS}/config.yaml",


refuse_what_no_node_can_meet()


onsuccess:
    # `--report-after-run` in a profile writes its report in a dry-run too, and fails on a fresh
    # clone; this runs after real runs only.
    if Path(RESULTS, "summary.md").exists():
        USED, REPORT = f"{RESULTS}/config.yaml", f"{RESULTS}/report.html"
        shell(
            "python -m snakemake --workflow-profile none --nolock --quiet all"
            " --configfile {USED:q} --report {REPORT:q}"
        )
        from isogloss.figures.closing import closing_box

        logger.info(closing_box(Path(RESULTS), Path(REPORT)))
