"""
The page of the study: verdicts, main table, figures, lens explorer, language map, in one file.

Requires: config.yaml, every result and figure; the manifests of activation, lens and steered files.
Gives:    {results}/report.html
"""

PAGE_FILES = PROGRAMS / "isogloss/report"


localrules:
    report,


rule report:
    input:
        **with_code("report.py"),
        page=[
            str(PAGE_FILES / name) for name in ("page.html.j2", "page.css", "page.js")
        ],
        config=f"{RESULTS}/config.yaml",
        manifests=[f"{STORE}/{name}" for name in MANIFESTS],
        results=[
            file
            for m in STUDY.models
            for d in STUDY.datasets
            for file in FILES.results(m, d)
        ],
        verdicts=[f"{RESULTS}/verdicts.nc"] if STUDY.questions else [],
        figures=files_of(all_figures(STUDY)),
    output:
        f"{RESULTS}/report.html",
    log:
        "logs/report.log",
    threads: 1
    resources:
        **asks(mem_mb=(3000, 0), runtime=(30, 0)),
    shell:
        "python {input.program} --config {input.config:q} --output {output:q}"
        " 2> >(tee -i {log:q} >&2)"
