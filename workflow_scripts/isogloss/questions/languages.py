"""Languages: canonical tags, scripts, names, separators and typological distance."""

from collections.abc import Sequence
from functools import cache, lru_cache

import langcodes
import numpy as np
from babel import Locale

from isogloss.errors import InputError

# Scripts written without spaces between words (Unicode Standard, chapters 16 to 18).
UNSPACED_SCRIPTS = frozenset(
    "Bali Bopo Hani Hans Hant Hira Hrkt Java Jpan Kana Khmr Lana Laoo Mymr Tale Talu Thai Tibt "
    "Yiii".split()
)
# The individual language that a macrolanguage's tag stands for in practice (ISO 639-3).
PRINCIPAL_LANGUAGE = {
    "ar": "arb", "az": "azj", "et": "ekk", "fa": "pes", "fil": "tgl", "gn": "gug", "ku": "kmr",
    "lv": "lvs", "mg": "plt", "mn": "khk", "ms": "zsm", "ne": "npi", "no": "nb", "om": "gaz",
    "or": "ory", "ps": "pbt", "sq": "als", "sw": "swh", "uz": "uzn", "yi": "ydd", "zh": "cmn",
}  # fmt: skip
MACROLANGUAGE = {individual: macro for macro, individual in PRINCIPAL_LANGUAGE.items()}
FIRST_SYNTHETIC, LAST_SYNTHETIC = "qaa", "qtz"
# Resource classes of Joshi et al. (2020), "The State and Fate of Linguistic Diversity and Inclusion
# in the NLP World": 5 has the most labelled and unlabelled data, 0 hardly any. Their list names
# languages in English, the tags are ours; of the smaller classes those that benchmarks have.
RESOURCE_CLASSES = {
    5: "ar de en es fr ja zh",
    4: "ca cs eu fa fi hi hr hu it ko nl pl pt ru sr sv tr vi",
    3: "af arz be bg bn bs ceb da el et fil gl he id ka kk la lt lv ms ro sk sl ta th uk ur uz",
    2: "am ga ha ht is lo mr mt pa sa sw ti tn wo xh yo zu",
    1: "as az bm bo ckb cy eo gd gu hy ig ilo jv ki km kn ky lb ln mg mi mk ml mn my ne no ny oc "
    "or qu rn rw sc sd sg sm sn so sq ss st su te tg tk tpi ts tt tw ug war yi",
    0: "fy nso si",
}
# Fewer features in common say nothing about two languages (our choice).
FEWEST_COMMON_FEATURES = 10


@cache
def canonical_tag(tag: str) -> str:
    """The one tag that this project uses for a language, whatever a source calls it.

    Territories are dropped (pt-BR is pt), and so is a script that the language is usually
    written in; another script stays. Individual languages of a macrolanguage go by the
    macrolanguage's tag where it stands for them in practice (arb_Arab is ar, but yue is yue).

    Args:
        tag: BCP 47 (`es-419`), a POSIX locale (`pt_BR`) or FLORES (`zho_Hans`).

    Raises:
        InputError: not a language tag, or a language that ISO 639 does not know.

    Source: our choice, on langcodes' reading of CLDR's aliases and likely subtags.

    >>> [canonical_tag(t) for t in ("es-LA", "pt-BR", "swh_Latn", "zho_Hans", "zh-TW", "EN")]
    ['es', 'pt', 'sw', 'zh', 'zh-Hant', 'en']
    """
    try:
        parsed = langcodes.Language.get(tag)
    except ValueError as error:
        raise _unknown(tag) from error
    if parsed.language is None or not parsed.is_valid():
        raise _unknown(tag)
    language = MACROLANGUAGE.get(parsed.language, parsed.language)
    written = langcodes.Language.make(language, script=parsed.script, territory=parsed.territory)
    script_here = written.maximize().script
    usual = langcodes.Language.make(language).maximize().script
    return language if script_here == usual else f"{language}-{script_here}"


def _unknown(tag: str) -> InputError:
    meant = _meant(tag)
    remedy = f"did you mean {meant}?" if meant else "use one such as en, sw or zh-Hant"
    return InputError(f'language "{tag}": not a language tag: {remedy}')


def _meant(tag: str) -> str | None:
    """The tag behind a language's name, or the main language behind a country's code.

    >>> _meant("dutch"), _meant("jp"), _meant("qq")
    ('nl', 'ja', None)
    """
    try:
        return langcodes.find(tag).to_tag()
    except LookupError:
        pass
    if len(tag) != 2 or not tag.isalpha():
        return None
    likely = langcodes.Language.make(territory=tag.upper()).maximize().language
    return None if likely in (None, "und", "en") else likely


def is_synthetic(language: str) -> bool:
    """Whether a tag is of the range that ISO 639 leaves to private use: no language of the earth.

    >>> is_synthetic("qab"), is_synthetic("en"), is_synthetic("que")
    (True, False, False)
    """
    return len(language) == 3 and FIRST_SYNTHETIC <= language <= LAST_SYNTHETIC


@cache
def script(language: str) -> str:
    """Script that a language is written in (ISO 15924), the likely one where the tag has none.

    Raises:
        InputError: not a language tag.

    >>> script("en"), script("zh"), script("zh-Hant"), script("sr-Latn")
    ('Latn', 'Hans', 'Hant', 'Latn')
    """
    return langcodes.Language.get(canonical_tag(language)).maximize().script or "Zyyy"


def resource_class(language: str) -> int | None:
    """How much data there is for a language: 0 (hardly any) to 5; None where it is not listed.

    Raises:
        InputError: not a language tag.

    Source: Joshi et al. (2020).

    >>> resource_class("en"), resource_class("swh_Latn"), resource_class("tlh")
    (5, 2, None)
    """
    tag = canonical_tag(language).partition("-")[0]
    classes = (number for number, tags in RESOURCE_CLASSES.items() if tag in tags.split())
    return next(classes, None)


def language_family(language: str) -> str:
    """Family of a language, as Glottolog has it; empty for isolates and where none is known.

    Raises:
        InputError: not a language tag.

    Source: URIEL (Littell et al. 2017), which the package urielplus ships.

    >>> language_family("sw"), language_family("hi"), language_family("eu")
    ('Atlantic-Congo', 'Indo-European', '')
    """
    members, names, row_of = _families()
    rows = [row_of[code] for code in _iso_codes(canonical_tag(language)) if code in row_of]
    # A family's groups are listed beside it: it is the largest.
    sizes = members.sum(axis=0) * members[rows].any(axis=0)
    return str(names[sizes.argmax()]).removeprefix("F_") if sizes.any() else ""


@cache
def _families() -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """(language, family) bool which language is of which family; their names, rows by code."""
    values, names, row_of = _uriel("family_features.npz")
    return values[:, :, 0] == 1, names, row_of


def _uriel(file: str) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """A table of URIEL: values (language, feature, source), names of features, rows by code.

    Reads the file that urielplus ships instead of calling the package, which would open every
    database that it holds and can write beside them.
    """
    from importlib.resources import files

    source = files("urielplus") / "database" / "original_uriel" / file
    with source.open("rb") as table, np.load(table, allow_pickle=False) as archive:
        row_of = {str(code): row for row, code in enumerate(archive["langs"])}
        return archive["data"], archive["feats"], row_of


HAN = {"Hans": "Simplified Han", "Hant": "Traditional Han"}
"""CLDR's names of these scripts where they stand alone, which Babel leaves out."""


def script_name(language: str) -> str:
    """English name of a language's script.

    >>> script_name("sw"), script_name("zh")
    ('Latin', 'Simplified Han')
    """
    code = script(language)
    return HAN.get(code) or str(Locale.parse("en").scripts.get(code, code))


def separator(language: str) -> str:
    """What stands between two words: nothing in scripts without spaces, else one space.

    >>> separator("th"), separator("ko")
    ('', ' ')
    """
    return "" if script(language) in UNSPACED_SCRIPTS else " "


def language_name(language: str) -> str:
    """English name of a language.

    Raises:
        InputError: not a language tag.

    >>> language_name("sw"), language_name("zh-Hant"), language_name("qab")
    ('Swahili', 'Chinese (Traditional)', 'language qab')
    """
    tag = canonical_tag(language)
    if is_synthetic(tag):
        return f"language {tag}"
    base, _, written_in = tag.partition("-")
    english = Locale.parse("en")
    if base not in english.languages or (written_in and written_in not in english.scripts):
        return langcodes.Language.get(tag).display_name("en")
    name: str = english.languages[base]
    if not written_in:
        return name
    # CLDR words a script otherwise beside a language than alone: "Traditional Han".
    alone = {"Hans": "Simplified", "Hant": "Traditional"}
    return f"{name} ({alone.get(written_in, english.scripts[written_in])})"


def typological_distance(languages: Sequence[str], pivot: str) -> dict[str, float]:
    """Syntactic distance of each language from the pivot, between 0 (the same) and 1.

    Angle between the languages' vectors of syntactic features (URIEL, gathered from WALS,
    SSWL and Ethnologue), over the features known for both, as a share of a right angle.

    Args:
        languages: language tags.
        pivot: the language to measure from.

    Returns:
        By the languages' own tags; NaN where fewer than 10 features are known for both.

    Raises:
        InputError: not a language tag.

    Source: Littell et al. (2017) for the features, which the package urielplus ships; the
    angular distance is URIEL+'s (Khan et al. 2025).
    """
    vectors = _syntax(tuple(sorted({canonical_tag(tag) for tag in (*languages, pivot)})))
    home = vectors[canonical_tag(pivot)]
    return {tag: _angular_distance(vectors[canonical_tag(tag)], home) for tag in languages}


def _angular_distance(vector: np.ndarray, other: np.ndarray) -> float:
    """Angle between two vectors of non-negative features, NaN where unknown, over a right angle.

    >>> _angular_distance(np.eye(2, 12)[0], np.eye(2, 12)[1])
    1.0
    """
    known = ~np.isnan(vector) & ~np.isnan(other)
    a, b = vector[known], other[known]
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    if known.sum() < FEWEST_COMMON_FEATURES or lengths == 0:
        return float("nan")
    return float(np.arccos(np.clip(a @ b / lengths, -1, 1)) / (np.pi / 2))


@lru_cache(maxsize=8)
def _syntax(tags: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Syntactic features by canonical tag, mean over sources, NaN where no source knows."""
    values, names, row_of = _uriel("features.npz")
    syntactic = np.char.startswith(names, "S_")
    vectors = {}
    for tag in tags:
        rows = [row_of[code] for code in _iso_codes(tag) if code in row_of]
        known = values[rows][:, syntactic].astype(float)  # (code, feature, source)
        present = known >= 0
        count = present.sum(axis=(0, 2))
        total = np.where(present, known, 0).sum(axis=(0, 2))
        vectors[tag] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return vectors


def _iso_codes(tag: str) -> list[str]:
    """ISO 639-3 codes under which a language is catalogued: its own and its principal member's.

    >>> _iso_codes("zh")
    ['zho', 'cmn']
    """
    base = tag.partition("-")[0]
    names = [base] + ([PRINCIPAL_LANGUAGE[base]] if base in PRINCIPAL_LANGUAGE else [])
    return [langcodes.Language.make(name).to_alpha3() for name in names]
