"""Chat templates: the date is pinned, what moves otherwise is refused."""

from datetime import datetime
from unittest.mock import patch

import pytest

from isogloss.errors import InputError
from isogloss.files.canonical import key_of
from isogloss.model.tiny_models import tiny_tokenizer
from isogloss.questions.chat import chat_text, check_still
from isogloss.study.keys import activation_identity
from isogloss.study.schema import Config
from isogloss.study.settings import Settings, prompt_style

DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "Today: {{ date_string }}\n{{ messages[0]['content'] }}"
)


def tokenizer(template: str):
    made = tiny_tokenizer(begins_with_bos=True)
    made.chat_template = template
    return made


class InFortyDays(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2031, 1, 2)


def test_a_template_that_writes_today_writes_the_pinned_date():
    dated = tokenizer(DATED)
    assert chat_text(dated, "Who?") == "Today: 26 Jul 2024\nWho?"
    assert chat_text(dated, "Who?", "2026-02-01") == "Today: 01 Feb 2026\nWho?"
    with patch("transformers.utils.chat_template_utils.datetime", InFortyDays):
        assert "2031" in dated.apply_chat_template(
            [{"role": "user", "content": "Who?"}], tokenize=False
        )
        assert chat_text(dated, "Who?") == "Today: 26 Jul 2024\nWho?"
    check_still(dated, "Who?")


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{{ [1, 2, 3] | random }} {{ messages[0]['content'] }}", "random numbers"),
        ("{{ lipsum() }} {{ messages[0]['content'] }}", "random numbers"),
        ("{{ raise_exception }} {{ messages[0]['content'] }}", "where objects lie in memory"),
    ],
)
def test_a_template_that_moves_is_refused_and_what_moves_it_is_named(template, what):
    with pytest.raises(InputError, match=f"chat template depends on {what}.*or use raw"):
        check_still(tokenizer(template), "Who?")


def test_a_tokenizer_whose_code_reads_clock_or_environment_is_refused():
    import os
    import time

    class ByClock:
        chat_template = "x"
        now = staticmethod(lambda: time.strftime("%Y", time.localtime()))

        def apply_chat_template(self, turns, chat_template=None, **_):
            if chat_template:
                return "2024-07-26"
            return self.now() + turns[0]["content"]

    with pytest.raises(InputError, match="depends on the clock"):
        check_still(ByClock(), "Who?")
    inside = ByClock()
    inside.now = lambda: os.environ.get("HOME", "")
    with pytest.raises(InputError, match="depends on the environment"):
        check_still(inside, "Who?")


def test_a_date_that_cannot_be_given_is_refused():
    class OfAnotherVersion:
        chat_template = "x"

        def apply_chat_template(self, turns, **_):
            return "today"

    with pytest.raises(InputError, match="lets no date be given"):
        check_still(OfAnotherVersion(), "Who?")


def test_options_reach_the_template():
    thinking = tokenizer("{% if enable_thinking | default(true) %}<think>{% endif %}A:")
    assert chat_text(thinking, "Who?") == "<think>A:"
    assert chat_text(thinking, "Who?", options={"enable_thinking": False}) == "A:"
    check_still(thinking, "Who?", options={"enable_thinking": False})


def key(**prompt):
    study = Config.model_validate({"prompt": {"templates": {"default": "{question}"}, **prompt}})
    settings = Settings(study).activations("gemma-3-270m", "everyday")
    digests = dict.fromkeys(study.languages, "1" * 64)
    return key_of(activation_identity(settings, digests, "de"))


def test_date_and_options_are_in_the_keys_of_chat_alone():
    assert key() == key(chat_date="2026-02-01")
    chat = [
        key(mode="chat"),
        key(mode="chat", chat_date="2026-02-01"),
        key(mode="chat", chat_template_kwargs={"enable_thinking": False}),
        key(mode="chat", chat_template_kwargs={"enable_thinking": True}),
        key(),
    ]
    assert len(set(chat)) == len(chat)


def test_settings_become_a_style():
    study = Config.model_validate(
        {"prompt": {"mode": "chat", "chat_template_kwargs": {"enable_thinking": False}}}
    )
    style = prompt_style(study.prompt.model_dump(mode="json"))
    assert (style.chat_date, style.chat_options) == ("2024-07-26", {"enable_thinking": False})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"mode": "raw", "chat_template_kwargs": {"a": 1}}, "needs mode chat"),
        ({"mode": "chat", "chat_template_kwargs": {"chat_template": "x"}}, "no variable"),
        ({"mode": "chat", "chat_date": "2024-02-31"}, "day"),
        ({"mode": "chat", "chat_date": "yesterday"}, "pattern"),
    ],
)
def test_settings_that_a_template_cannot_have_are_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        Config.model_validate({"prompt": prompt})
