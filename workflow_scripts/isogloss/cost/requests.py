"""What a job asks for: memory, time, GPUs and threads, by the size of its model and by attempt."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from isogloss.cost.side_by_side import memory_mb, models_at_once
from isogloss.errors import InputError
from isogloss.measures.retrieval import ALL_LAYERS_TO
from isogloss.store.places import shared_names
from isogloss.study.keys import STAGES, Artifacts
from isogloss.study.resources import Cluster
from isogloss.study.schema import Config
from isogloss.study.sections import Model

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BESIDE_WEIGHTS = 1.3
"""Memory of a GPU by its model's weights: states, scores and a block of logits need some too."""

PAIR_CLUSTER_BYTES = 64
"""Memory of `similarity` for each pair of languages and cluster left out: eight such maps."""

DRAW_BYTES = 3
"""The same for each shuffled order, language and item: its place, and its sign."""

SIMILARITY_GB = 4
"""Its `similarity.memory_gb` that the request of the rule counts with [GB]."""

PAIR_ITEM_BYTES = 260
"""Memory of measures over pairs of languages, for each pair and item left out, measured."""

MODEL_MB = {"extract": (3000, 8000), "steer": (3000, 8000), "lens": (6000, 1000)}
"""Memory that jobs ask for which run a model: for any, and for each billion parameters [MB]."""

Request = tuple[int, int]
"""Of memory [MB] or time [min]: for any model, and for each billion parameters."""

LIMITS = {"mem_mb": "max_mem_mb", "runtime": "max_runtime", "gpu": "max_gpus"}
"""Key of `cluster` that limits a resource."""


def by_size(base: int, per_billion: int, parameters: int) -> int:
    """A request that grows with a model's parameters.

    >>> by_size(3000, 8000, 500_000_000)
    7000
    """
    return base + math.ceil(per_billion * parameters / 1e9)


def model_threads(cluster: Cluster) -> int:
    """Threads of a job that runs a model; more hardly make it faster."""
    return min(8, cluster.max_threads or 8)


def similarity_mb(n_languages: int, n_items: int, n_shuffles: int) -> int:
    """Memory of `similarity` beyond a program's own and `similarity.memory_gb` [MB].

    >>> similarity_mb(122, 900, 999 + 199)
    1252
    """
    of_pairs = PAIR_CLUSTER_BYTES * n_items * n_languages**2
    return math.ceil((of_pairs + DRAW_BYTES * n_shuffles * n_languages * n_items) / 1e6)


def wordings_mb(n_languages: int, n_items: int, n_wordings: int) -> int:
    """Memory of `variants`: Gram matrices three times over, and pairs with each item left out [MB].

    >>> wordings_mb(122, 900, 3)
    12527
    """
    states = n_languages * n_wordings
    size = 24 * states * n_items**2 + 16 * n_items * states**2
    return math.ceil((size + PAIR_ITEM_BYTES * n_items * n_languages**2) / 1e6)


def at_attempt(first: int, attempt: int, growth: float, limit: int | None) -> int:
    """The request of an attempt: the first as it is, later ones more, up to the limit.

    Args:
        growth: what each further attempt adds, as a share of the first request.
        limit: the most that one node gives; None: not known.

    >>> [at_attempt(4000, attempt, 0.5, 7000) for attempt in (1, 2, 3, 4)]
    [4000, 6000, 7000, 7000]
    """
    asked = int(first * (1 + growth * (attempt - 1)))
    return asked if limit is None or attempt == 1 else max(first, min(asked, limit))


def gpu_mem_mb(model: Model) -> int:
    """Memory of GPUs that a model needs, in all [MB]."""
    return math.ceil(model.parameters * BYTES[model.dtype] * BESIDE_WEIGHTS / 1e6)


def gpus(model: Model, cluster: Cluster) -> int:
    """GPUs that a job asks for that runs a model: `cluster.gpus`, or as many as hold it."""
    if cluster.gpus == 0 or cluster.gpu_mem_mb is None or model.device_map is None:
        return cluster.gpus
    return max(cluster.gpus, math.ceil(gpu_mem_mb(model) / cluster.gpu_mem_mb))


def refusal(rule: str, model: str | None, asked: dict[str, int], cluster: Cluster) -> str | None:
    """Why no node can run a job, in one line; None where one can.

    Args:
        model: its slug; None for a job that runs none.
        asked: by resource.
    """
    for resource, key in LIMITS.items():
        limit = getattr(cluster, key)
        if limit is not None and asked.get(resource, 0) > limit:
            job, remedy = (f"{rule} of {model}", "leave the model out, ") if model else (rule, "")
            return (
                f"{job} asks for {resource}={asked[resource]}, but cluster.{key} is {limit}: "
                f"{remedy}correct the limit, or, where less is enough, ask for less: "
                f"--set-resources {rule}:{resource}={limit}"
            )
    return None


def too_large_for_a_gpu(models: dict[str, Model], cluster: Cluster) -> str | None:
    """Which model fits no GPU as it is loaded, in one line; None where all do."""
    for slug, model in models.items():
        needed, there = gpu_mem_mb(model), cluster.gpu_mem_mb
        if cluster.gpus and there is not None and model.device_map is None and needed > there:
            return (
                f"models.{slug}: needs {needed} MB on one GPU, but cluster.gpu_mem_mb is {there}: "
                "set its device_map: auto, or leave the model out"
            )
    return None


class Requests:
    """What the jobs of one study ask for.

    Args:
        study: its configuration.
        manifests: of the study, as `Settings.manifests` has them.
        artifacts: of the study.
    """

    def __init__(
        self, study: Config, manifests: Mapping[str, tuple[str, str]], artifacts: Artifacts
    ) -> None:
        self.study, self.manifests, self.cluster = study, manifests, study.cluster
        self.artifacts = artifacts
        self.model_threads = model_threads(study.cluster)

    def models_of(self, rule: str) -> list[str]:
        """Models that a rule runs for: training, for those that are trained here."""
        trains = rule == STAGES["organism"].rule
        return self.study.organisms if trains else list(self.study.models)

    @functools.cached_property
    def shared(self) -> frozenset[str]:
        """Names of what the shared place has: one listing, when a job is planned."""
        return shared_names(self.study, otherwise="planned")

    def are_shared(self, stage: str, about: Sequence[str]) -> bool:
        """Whether the artifacts of a job only have to be fetched."""
        try:
            artifacts = getattr(self.artifacts, stage)(*about) if self.shared else []
            return bool(artifacts) and all(a.name in self.shared for a in artifacts)
        except InputError:
            return False  # questions that are not there yet: the job says so

    def parameters(self, model: str | None) -> int:
        """Parameters of a model; None: of the largest, for a job that reads all models."""
        models = self.study.models
        return models[model].parameters if model else max(m.parameters for m in models.values())

    def mem_mb(self, request: Request, attempt: int, model: str | None, more: int = 0) -> int:
        """Memory of a job: half as much more at each further attempt [MB].

        Args:
            more: beyond what the model needs.
        """
        first = by_size(*request, self.parameters(model)) + more
        return at_attempt(first, attempt, 0.5, self.cluster.max_mem_mb)

    def runtime(self, request: Request, attempt: int, model: str | None) -> int:
        """Time of a job: the first request once more at each further attempt [min]."""
        first = by_size(*request, self.parameters(model))
        return at_attempt(first, attempt, 1.0, self.cluster.max_runtime)

    def gpus(self, rule: str, model: str) -> int:
        """GPUs of a job that runs a model; the lens needs a part of it, which fits on one."""
        if rule == "lens":
            return min(1, self.cluster.gpus)
        return gpus(self.study.models[model], self.cluster)

    def for_similarity(self, dataset: str | None) -> int:
        """Memory of `similarity` beyond that of a small study [MB]; None: of the largest dataset.

        Clusters are counted as items, where these are announced.
        """
        how = self.study.similarity
        shuffles = how.permutations + how.map_permutations
        more = math.ceil(1000 * max(0, how.memory_gb - SIMILARITY_GB))
        return more + max(similarity_mb(*size, shuffles) for size in self._sizes(dataset))

    def pair_threads(self, dataset: str | None) -> int:
        """Threads of a measure of every two languages: of few languages, jobs run side by side."""
        most = max(n_languages for n_languages, _ in self._sizes(dataset))
        return self.model_threads if most > ALL_LAYERS_TO else 1

    def wordings(self, dataset: str | None) -> int:
        """Memory for all wordings of a dataset's questions [MB]; None: of the largest dataset."""
        return max(
            wordings_mb(*size, 1 + len(self.study.variants_of(name)))
            for name in ([dataset] if dataset else self.study.datasets)
            for size in self._sizes(name)
        )

    def jobs_at_once(self, rule: str, cores: int) -> int:
        """How many jobs of a rule that runs models start together on the processors of a machine.

        By the manifests that are missing now: where one is, its job has all cores. A part of a
        study that is asked for by name counts as the whole.
        """
        jobs = {
            n: model for n, (stage, model) in self.manifests.items() if STAGES[stage].rule == rule
        }
        left = [model for n, model in jobs.items() if not Path(self.study.store, n).exists()]
        models = left or jobs.values()
        sizes = [by_size(*MODEL_MB[rule], self.parameters(model)) for model in models]
        return models_at_once(sizes, cores, self.model_threads, self.room_for_models)

    @functools.cached_property
    def room_for_models(self) -> int:
        """How many of the largest jobs that run models fit into this machine's memory."""
        largest = max(by_size(*request, self.parameters(None)) for request in MODEL_MB.values())
        return memory_mb() // largest

    def _sizes(self, dataset: str | None) -> Iterator[tuple[int, int]]:
        """Languages and announced items of a dataset; None: of every dataset."""
        for name in [dataset] if dataset else self.study.datasets:
            yield len(self.study.languages_of(name)), self.study.announced_items(name) or 0
