"""Sections of a study of organisms: the synthetic world, models trained on it, how they compare."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from isogloss.questions.world import N_CHOICES
from isogloss.study.setting_types import Count, Seed, Strict, no_repeats


class World(Strict):
    """A synthetic parallel world: its languages are those of the study, from qaa to qtz."""

    entities: int = Field(120, ge=10, le=2500, description="things that facts are about")
    relations: int = Field(4, ge=1, le=100, description="facts about each entity")
    objects: int = Field(24, ge=N_CHOICES, le=2500, description="answers that a fact may have")
    words: Literal[1, 2] = Field(
        1,
        description="words in the name of an entity or object; with 2, no embedding of a word can "
        "store a fact",
    )
    coverage: float = Field(
        0.6, gt=0, le=1, description="share of the facts that models see in each language"
    )
    seed: Seed = Field(0, description="of facts and coverage")


class Organism(Strict):
    """How a tiny model is made and trained on the study's world."""

    sharing: float = Field(
        0, ge=0, le=1, description="share of the embeddings' variance that languages have in common"
    )
    bridge: float = Field(
        0, ge=0, lt=1, description="share of the training sequences that mix two languages"
    )
    width: int = Field(64, ge=16, le=1024, multiple_of=8, description="of the residual stream")
    layers: int = Field(4, ge=1, le=64, description="blocks")
    steps: Count = Field(200, ge=1, description="steps of training, at most")
    until_loss: float | None = Field(
        None,
        gt=0,
        description="end at the first evaluation with no more loss on facts [nat per token]",
    )
    batch: int = Field(256, ge=8, le=65_536, description="sequences of a step")
    learning_rate: float = Field(0.002, gt=0, lt=1, description="of AdamW")
    evaluate_every: Count = Field(50, ge=1, description="steps between evaluations")
    seed: Seed = Field(0, description="of the first weights and of what is read in which order")

    @model_validator(mode="after")
    def _whole_bridge(self) -> "Organism":
        if 0 < self.bridge * self.batch < 2:
            raise ValueError("bridge: less than two sequences of a batch: raise bridge or batch")
        return self


Loss = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ladder(Strict):
    """Where organisms of several sizes are compared beside equal steps: verdicts on the first."""

    losses: list[Loss] = Field([0.5, 0.3, 0.1], description="of seen facts [nat per token]")
    bridge_losses: list[Loss] = Field([1.4, 1.2, 1.0], description="of the bridge [nat per token]")

    _lists = field_validator("losses", "bridge_losses")(no_repeats)
