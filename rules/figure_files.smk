"""
Which figures a study has: their files, the results that each shows, what their looks depend on.

For figures.smk and the Snakefile. No rules here.
"""

# Title in the report of every figure, in the order in which they are looked at.
BEHAVIOUR_FIGURES = {"accuracy": "Accuracy, consistency", "transfer": "Transfer"}
LENS_FIGURES = {
    "lens_accuracy": "Logit lens: accuracy",
    "lens_language": "Logit lens: language",
    "lens_items": "Logit lens: single items",
}
SPACE_FIGURES = {
    "place_and_shape": "Same place, same shape",
    "language_pairs": "Pairs of languages",
    "language_subspace": "Language subspace",
}


def fitted_for(dataset: str) -> list[str]:
    """Datasets whose steering vectors are evaluated on this one."""
    steering = STUDY.steering
    return list(steering.fit_on) if steering and dataset in steering.evaluate_on else []


def figure_titles(dataset: str) -> dict[str, str]:
    """Figures of one model on one dataset, by name."""
    if dataset not in QUESTIONS:
        return dict(SPACE_FIGURES)
    titles = (
        BEHAVIOUR_FIGURES | (LENS_FIGURES if STUDY.with_lens else {}) | SPACE_FIGURES
    )
    for fitted in fitted_for(dataset):
        titles[f"steering_surface_{fitted}"] = f"Steering: settings ({fitted})"
        titles[f"steering_effect_{fitted}"] = f"Steering: effect ({fitted})"
    return titles


def figure_files(stem: str, **labels) -> list:
    """A figure in every format, its numbers and its caption; one format is in the report."""
    formats = STUDY.figures.formats
    best = next(f for f in ("png", "svg", "pdf") if f in formats)
    others = [f for f in [*formats, "csv", "rst"] if f != best]
    caption = str(Path(f"{stem}.rst").absolute())
    shown = report(f"{stem}.{best}", caption=caption, **labels)
    return [shown, *(f"{stem}.{suffix}" for suffix in others)]


def figures_of(model: str, dataset: str) -> list:
    """Every file that the figures of one model on one dataset make."""
    return [
        file
        for number, (name, title) in enumerate(figure_titles(dataset).items(), 1)
        for file in figure_files(
            f"{RESULTS}/{model}/{dataset}/figures/{name}",
            category=model,
            subcategory=dataset,
            labels={"figure": f"{number}. {title}"},
        )
    ]


def figure_inputs(model: str, dataset: str) -> dict:
    """The results that the figures of one model on one dataset show."""
    at = SimpleNamespace(model=model, dataset=dataset)
    folder = f"{RESULTS}/{model}/{dataset}"
    names = ["similarity", "subspaces"]
    found = {}
    if dataset in QUESTIONS:
        names.append("behaviour")
        if STUDY.with_lens:
            names.append("trajectories")
            found["lenses"] = lenses(at)
    found |= {name: f"{folder}/{name}.nc" for name in names}
    if fitted := fitted_for(dataset):
        found["steering"] = [f"{folder}/steering_{name}.nc" for name in fitted]
    return found


def scale_figure(dataset: str) -> list:
    """The files of the figure that sets the models of the study side by side."""
    return figure_files(
        f"{RESULTS}/scale/figures/scale_{dataset}",
        category="All models",
        subcategory=dataset,
        labels={"figure": "Against scale"},
    )


def all_figures() -> list:
    """Every figure of the study."""
    own = [f for m in STUDY.models for d in STUDY.datasets for f in figures_of(m, d)]
    return own + [f for d in QUESTIONS for f in scale_figure(d)]


def as_options(inputs: dict) -> str:
    """Results as a program's options: --behaviour FILE --steering FILE FILE ..."""
    return " ".join(
        f"--{name} "
        + " ".join(map(shlex.quote, [files] if isinstance(files, str) else files))
        for name, files in inputs.items()
    )


def models_as_they_are() -> dict[str, str]:
    """Name of every model by slug, with what was done to it."""
    sources = {m: ModelSource.from_spec(m, dump(s)) for m, s in STUDY.models.items()}
    return {m: f"{m} ({s.note})" if s.note else m for m, s in sources.items()}


def figures_slice(model: str | None = None, dataset: str | None = None) -> dict:
    """What the looks of figures depend on: of one model on one dataset, or of all."""
    names = models_as_they_are()
    content = {"figures": dump(STUDY.figures), "pivot": STUDY.pivot}
    if model is None or dataset is None:
        return content | {"models": names}
    questions = dump(STUDY.datasets[dataset], exclude={"prompt", "languages"})
    return content | {
        "models": {model: names[model]},
        "model": model,
        "dataset": dataset,
        "questions": questions,
    }


def as_it_is(text: str):
    """A parameter in which braces are no wildcards."""
    return lambda wildcards: text


def in_the_report(content: dict):
    """Settings of a rule whose outputs the report shows, as JSON without braces' meaning.

    The report holds the parameters of these rules inside a script, which `</script>` would end.
    """
    return as_it_is(canonical_json(content).replace("<", "\\u003c"))
