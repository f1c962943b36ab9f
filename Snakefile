"""
Isogloss: at which layers, for which languages and at which sizes does a multilingual model stop
working in a representation that its languages share?

Requires: config/config.yaml, or another study with --configfile config/studies/X.yaml.
Gives:    report.html, figures, tables and summary.md in the study's results folder.
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
include: "rules/pivots.smk"
include: "rules/scale.smk"
include: "rules/verdicts.smk"
include: "rules/figure_files.smk"
include: "rules/organisms.smk"
include: "rules/figures.smk"
include: "rules/matrix.smk"
include: "rules/report.smk"
include: "rules/estimate.smk"


rule all:
    default_target: True
    input:
        files_of(all_figures(STUDY)),
        [f"{STORE}/{name}" for name in MANIFESTS],
        f"{RESULTS}/summary.md",
        f"{RESULTS}/report.html",
        f"{RESULTS}/config.yaml",


refuse_what_no_node_can_meet()
if workflow.output_settings.dryrun:
    refuse_what_would_end_the_run()


onsuccess:
    # Here, so that it stands after real runs only.
    from isogloss.figures.closing import closing_box

    if Path(RESULTS, "summary.md").exists():
        logger.info(closing_box(Path(RESULTS), Path(RESULTS, "report.html")))
