"""A question as a user's turn in the model's own chat template.

A template is a program of the model's. Those of Llama 3.2, SmolLM3 and Granite write today's date:
it is pinned, since a prompt must not change overnight while its key stays. A template that
depends on anything else that moves is refused.
"""

import os
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date, datetime, timedelta, tzinfo
from typing import Any
from unittest.mock import patch

from isogloss.errors import InputError, one_line

DATE = "2024-07-26"
"""The date that a template gets as today; Llama 3.2 writes this date where it has no clock."""

RESERVED = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "sanitize_control_tokens",
    "strftime_now",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
)
"""Arguments of transformers' own, which are no options of a template."""


def chat_text(
    tokenizer: Any, text: str, today: str = DATE, options: Mapping[str, Any] | None = None
) -> str:
    """The text as a user's turn, up to where the model's answer begins.

    Args:
        text: what the user says.
        today: the date that the template gets, YYYY-MM-DD.
        options: further variables of the template, such as `enable_thinking`.

    Raises:
        InputError: the model has no chat template, or it fails.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError("prompt.mode: chat, but the model has no chat template: use raw")
    try:
        with _clock_at(datetime.fromisoformat(today)):
            return _rendered(tokenizer, text, **(options or {}))
    except Exception as error:  # a template is a program of the model's, run in a sandbox
        raise InputError(
            f"prompt.mode: chat: the model's chat template fails ({one_line(error)}): use raw"
        ) from error


def _rendered(tokenizer: Any, text: str, **options: Any) -> str:
    turns = [{"role": "user", "content": text}]
    prompt: str = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, **options
    )
    return prompt


def check_still(
    tokenizer: Any, text: str, today: str = DATE, options: Mapping[str, Any] | None = None
) -> None:
    """Refuse a template whose prompt changes with what is in no key.

    The prompt is rendered again with other random numbers, by another clock and in another
    environment.

    Args:
        tokenizer, text, today, options: as `chat_text` takes them.

    Raises:
        InputError: the prompt moves, and with what; or this transformers lets no date be given.
    """
    with _clock_at(datetime.fromisoformat(today)):
        date_said = _rendered(tokenizer, text, chat_template="{{ strftime_now('%Y-%m-%d') }}")
    if date_said != today:
        raise InputError(
            "prompt.mode: chat: this version of transformers lets no date be given to chat "
            "templates: install the versions of requirements.txt"
        )
    first = chat_text(tokenizer, text, today, options)
    for what, moved in _moves(tokenizer):
        with moved:
            changed = chat_text(tokenizer, text, today, options) != first
        if changed:
            raise _moving(what)
    if re.search(r" at 0x[0-9a-f]{6,}", first.replace(text, "")):
        raise _moving("where objects lie in memory")


def _moving(what: str) -> InputError:
    return InputError(
        f"prompt.mode: chat: the model's chat template depends on {what}, and the same study would "
        "score other prompts another time: save the tokenizer with a template that does not, or "
        "use raw"
    )


def _moves(tokenizer: Any) -> Iterator[tuple[str, AbstractContextManager]]:
    """What may move, and how to make it move."""
    for seed in range(8):
        yield "random numbers", _seeded(seed)
    for later in (timedelta(hours=7), timedelta(days=40), timedelta(days=400)):
        yield "the clock", _later(later, tokenizer)
    yield "the environment's variables", patch.dict(os.environ, {}, clear=True)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _later(by: timedelta, tokenizer: Any) -> Iterator[None]:
    """Let clocks go ahead: of the time module, and what the tokenizer's own code has imported."""
    now = time.time() + by.total_seconds()
    at = datetime.fromtimestamp(now)
    module = sys.modules.get(type(tokenizer).__module__)
    with (
        patch("time.time", lambda: now),
        patch("time.localtime", lambda seconds=now, real=time.localtime: real(seconds)),
        patch("time.gmtime", lambda seconds=now, real=time.gmtime: real(seconds)),
        _replaced(module, "date", date, at),
        _replaced(module, "datetime", datetime, at),
    ):
        yield


def _replaced(module: Any, name: str, kind: type, at: datetime) -> AbstractContextManager:
    """A module's `date` or `datetime` with another now; nothing where it has imported none."""
    if getattr(module, name, None) is not kind:
        return nullcontext()
    return patch.object(module, name, _kind_at(kind, at))


def _clock_at(at: datetime) -> AbstractContextManager:
    """Let `strftime_now` of templates say this moment."""
    return patch("transformers.utils.chat_template_utils.datetime", _kind_at(datetime, at))


def _kind_at(kind: Any, at: datetime) -> Any:
    """`date` or `datetime` whose now is a given moment."""

    class At(kind):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return at.replace(tzinfo=tz)

        @classmethod
        def utcnow(cls) -> datetime:
            return at

        @classmethod
        def today(cls) -> Any:
            return at if kind is datetime else at.date()

    return At
