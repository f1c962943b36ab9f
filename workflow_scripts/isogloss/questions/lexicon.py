"""The lexicon: parallel questions made from CLDR and emoji data, in dozens of languages.

Items are analogies without any sentence, so that nothing has to be translated: the question is
two worked pairs and a third one left open ("Nairobi → Kenya, Paris → France, Tokyo →"), the
choices are names. Kinds of items:

| kind | asks | names from |
| --- | --- | --- |
| `flag` | the country of a flag emoji | CLDR territories |
| `continent` | the continent of a country | CLDR territories, UN M.49 |
| `city` | the country of a city | CLDR time zones' exemplar cities, territories |
| `month` | the month that follows | CLDR calendars |
| `emoji` | the name of an emoji; 14 languages only, so it has to be asked for | package emoji |

What makes an item usable is checked in **all** languages of its kinds, not only in those asked
for: adding a language to a study changes no item. The checks: the gold answer is nowhere in the
question; no choice shares a stem with the word asked about (Algiers → Algeria; months aside); no
choice holds another; no choice is shown in the question, so that what is shown rules nothing out;
and each name is in the language's own script. Countries on two continents are left out.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from isogloss.errors import InputError
from isogloss.questions.items import Item, ParallelItems, find_clusters, normalise, same_text
from isogloss.questions.languages import canonical_tag, script, separator

Kind = Literal["flag", "continent", "city", "month", "emoji"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS = ("flag", "continent", "city", "month")
N_CHOICES = 4
N_EXAMPLES = 2
# Draws of examples and distractors for one item before it is given up.
N_DRAWS = 100
# A run of characters that two names share gives the answer away from this length on; in
# scripts that write a syllable or a word with one character, two are enough (our choice).
STEM = 4
STEM_OF_SCRIPT = {"Hans": 2, "Hant": 2, "Jpan": 3, "Kore": 2, "Ethi": 3}

# Languages in which CLDR names everything below; emoji has those of EMOJI_LANGUAGES.
CLDR_LANGUAGES = tuple(
    "af am ar az be bg bn bs ca cs da de el en es et eu fa fi fr gl gu he hi hr hu hy id is it ja "
    "ka kk km kn ko ky lo lt lv mk ml mn mr ms my ne nl no pa pl pt ro ru si sk sl sq sr sv sw ta "
    "te th tr uk ur uz vi yue zh".split()
)
EMOJI_LANGUAGES = tuple("ar de en es fa fr id it ja ko pt ru tr zh".split())

# UN M.49 by way of CLDR: countries that lie on one continent alone (002 Africa, 142 Asia, 150
# Europe, 003 North America, 005 South America, 009 Oceania). Left out are transcontinental
# countries and those with parts overseas (RU TR KZ AZ GE AM CY EG ID TL PG YE ES FR NL DK NO PT
# GB US CL), and countries whose name holds a continent's.
COUNTRIES_OF = {
    "002": "AO BJ BW CM ET GA GH KE LR LY MA MG ML MW MZ NA NE NG RW SD SN SO TD TN TZ UG ZM ZW",
    "142": "AF BD BH BT IN IQ JO JP KH KW LA LB LK MM MN MY NP OM PH PK QA SY TH UZ VN",
    "150": "AL AT BE BG BY CH CZ DE EE FI HR HU IE IS IT LT LV MD PL RO RS SE SI SK UA",
    "003": "BB BZ CA CR CU GT HN HT JM MX NI PA",
    "005": "AR BO BR CO EC GY PE PY SR UY VE",
    "009": "AU FJ NR NZ PW TO TV VU WS",
}
FLAG_COUNTRIES = (
    "AR AT AU BE BG BO BR CA CH CL CN CO CR CU CZ DE DK DZ EC EG ES ET FI FR GB GH GR HR HU IE IL "
    "IN IQ IS IT JM JP KE KH LB MA MX MY NG NL NO NP NZ PE PH PK PL PT RO RU SA SE SN TH TR TZ UA "
    "UG US UY VE VN ZA"
)
# Cities by their tz database zone, with the country that each lies in.
CITIES = dict(
    pair.split("=")
    for pair in """
    Africa/Accra=GH Africa/Addis_Ababa=ET Africa/Cairo=EG Africa/Casablanca=MA Africa/Dakar=SN
    Africa/Harare=ZW Africa/Johannesburg=ZA Africa/Kampala=UG Africa/Khartoum=SD Africa/Kigali=RW
    Africa/Lagos=NG Africa/Luanda=AO Africa/Lusaka=ZM Africa/Maputo=MZ Africa/Mogadishu=SO
    Africa/Nairobi=KE Africa/Tripoli=LY America/Asuncion=PY America/Bogota=CO America/Caracas=VE
    America/Havana=CU America/La_Paz=BO America/Lima=PE America/Managua=NI America/Montevideo=UY
    America/New_York=US America/Santiago=CL America/Sao_Paulo=BR America/Toronto=CA Asia/Baghdad=IQ
    Asia/Baku=AZ Asia/Bangkok=TH Asia/Beirut=LB Asia/Colombo=LK Asia/Damascus=SY Asia/Dhaka=BD
    Asia/Jakarta=ID Asia/Kabul=AF Asia/Karachi=PK Asia/Manila=PH Asia/Riyadh=SA Asia/Seoul=KR
    Asia/Shanghai=CN Asia/Tashkent=UZ Asia/Tbilisi=GE Asia/Tokyo=JP Asia/Yerevan=AM
    Australia/Sydney=AU Europe/Amsterdam=NL Europe/Athens=GR Europe/Belgrade=RS Europe/Berlin=DE
    Europe/Brussels=BE Europe/Bucharest=RO Europe/Budapest=HU Europe/Copenhagen=DK
    Europe/Dublin=IE Europe/Helsinki=FI Europe/Istanbul=TR Europe/Lisbon=PT Europe/London=GB
    Europe/Madrid=ES Europe/Minsk=BY Europe/Moscow=RU Europe/Oslo=NO Europe/Paris=FR
    Europe/Prague=CZ Europe/Riga=LV Europe/Rome=IT Europe/Sofia=BG Europe/Stockholm=SE
    Europe/Tallinn=EE Europe/Vienna=AT Europe/Vilnius=LT Europe/Warsaw=PL Europe/Zagreb=HR
    Europe/Zurich=CH Pacific/Auckland=NZ
    """.split()
)
EMOJI = (
    "🐝 🐘 🐍 🐄 🐑 🐪 🐢 🐙 🐌 🦋 🐜 🐓 🐧 🍌 🍇 🍋 🍓 🍍 🥕 🌽 🧀 🥚 "
    "🍞 🧄 🔑 🔨 🔔 🪑 🚗 🚲 🚢 ⛵ 🚀 🧲 ☂️ 🔥 🌵 🌹 👑 💍 🎸 🎻 🥁 🎹 "
    "🌉 👂 👃 🦷 🦴 🧠 🧹 🧦 👖 👗 🧤 🧭 🔭 🔬 🕯️ 🧊 🌈 🌋 🏝️ 🪜"
).split()

Name = Callable[[str], str | None]


@dataclass(frozen=True)
class _Pair:
    """One line of the lexicon: what is asked about and its answer, each nameable in a language."""

    item_id: str
    cluster: str  # what the pair is about, shared by the kinds that ask about the same
    answer_id: str
    asked: Name
    answer: Name


def lexicon_languages(kinds: Sequence[str] = DEFAULT_KINDS) -> tuple[str, ...]:
    """Languages that the data behind these kinds covers completely.

    Raises:
        InputError: an unknown kind.

    >>> len(lexicon_languages()) >= 30, lexicon_languages(("emoji",))[:3]
    (True, ('ar', 'de', 'en'))
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(f"lexicon: kinds {list(kinds)}: choose from {', '.join(KINDS)}")
    return EMOJI_LANGUAGES if "emoji" in kinds else CLDR_LANGUAGES


def lexicon_items(
    languages: Sequence[str], n_items: int = 60, seed: int = 0, kinds: Sequence[str] = DEFAULT_KINDS
) -> ParallelItems:
    """Analogies with four choices, the same in every language.

    The items depend on `n_items`, `seed`, `kinds` and the versions of Babel and emoji, not on
    the languages. Kinds share the number of items equally as far as they last, and the gold
    answer's position goes round. Items about the same country are one cluster; items that
    merely have the same continent for an answer are not: the general rule would make
    nearly all continent items one cluster, for their choices are few (our choice).

    Args:
        languages: tags among `lexicon_languages(kinds)`.
        n_items: how many.
        seed: of the draw.
        kinds: of items, in this order.

    Returns:
        Items whose category is their kind.

    Raises:
        InputError: an unknown kind, a language that the data does not cover, or more items than
            can be made.

    Source: our choice.

    >>> items = lexicon_items(["en", "sw"], n_items=8)
    >>> items.items["en"][7].question.count("→"), len(items.items["sw"][7].choices)
    (3, 4)
    """
    wanted = list(dict.fromkeys(map(canonical_tag, languages)))
    covered = lexicon_languages(kinds)
    absent = [language for language in wanted if language not in covered]
    if absent:
        raise InputError(
            f"lexicon: {absent[0]} is not covered for {', '.join(kinds)}:"
            f" choose from {', '.join(covered)}"
        )
    drawn = _draw(n_items, seed, tuple(kinds))
    items = {
        language: tuple(_item(draw, row, language) for row, draw in enumerate(drawn))
        for language in wanted
    }
    return ParallelItems(
        name="lexicon",
        items=items,
        clusters=find_clusters(items[wanted[0]]),
        licence="Unicode-3.0",
        normalised=dict.fromkeys(wanted, 0),
    )


@dataclass(frozen=True)
class _Draw:
    """An item before it is written in a language."""

    kind: str
    pair: _Pair
    examples: tuple[_Pair, ...]
    distractors: tuple[_Pair, ...]


def _item(draw: _Draw, row: int, language: str) -> Item:
    """A draw in one language; the gold answer's place follows from the row."""
    choices = [_named(pair.answer, language) for pair in draw.distractors]
    answer = row % N_CHOICES
    choices.insert(answer, _named(draw.pair.answer, language))
    return Item(
        item_id=draw.pair.item_id,
        context="",
        question=_question(draw.pair, draw.examples, language),
        choices=tuple(choices),
        answer=answer,
        category=draw.kind,
        cluster=draw.pair.cluster,
    )


def _question(pair: _Pair, examples: Sequence[_Pair], language: str) -> str:
    """Worked pairs and an open one, with the language's own spacing around the arrow."""
    space = separator(language)
    shown = [
        f"{_named(example.asked, language)}{space}→{space}{_named(example.answer, language)}"
        for example in examples
    ]
    return ", ".join([*shown, f"{_named(pair.asked, language)}{space}→"])


def _named(name: Name, language: str) -> str:
    """A name that `_usable` has found to be there."""
    text = name(language)
    if text is None:
        raise ValueError(f"no name in {language}")
    return text


# --- drawing -----------------------------------------------------------------------------------


@cache
def _draw(n_items: int, seed: int, kinds: tuple[str, ...]) -> tuple[_Draw, ...]:
    """Items of every kind in turn, the longest-lasting kinds filling what others leave."""
    languages = lexicon_languages(kinds)
    supply = {kind: _draws_of_kind(kind, seed, languages) for kind in kinds}
    taken: dict[str, list[_Draw]] = {kind: [] for kind in kinds}
    open_kinds = list(kinds)
    while open_kinds and sum(map(len, taken.values())) < n_items:
        kind = min(open_kinds, key=lambda k: len(taken[k]))
        draw = next(supply[kind], None)
        if draw is None:
            open_kinds.remove(kind)
        else:
            taken[kind].append(draw)
    made = sum(map(len, taken.values()))
    if made < n_items or n_items < 1:
        raise InputError(
            f"lexicon: {n_items} items of {', '.join(kinds)}: ask for 1 to {made}, or more kinds"
        )
    return tuple(draw for kind in kinds for draw in taken[kind])


def _draws_of_kind(kind: str, seed: int, languages: Sequence[str]) -> Iterator[_Draw]:
    """Items of one kind in seeded order, each checked in every language."""
    pairs = [pair for pair in _pairs(kind) if _usable(pair, languages)]
    order = random.Random(f"{seed} {kind}").sample(pairs, len(pairs))
    for pair in order:
        draw = _fitting_draw(kind, pair, pairs, seed, languages)
        if draw is not None:
            yield draw


def _fitting_draw(
    kind: str, pair: _Pair, pairs: Sequence[_Pair], seed: int, languages: Sequence[str]
) -> _Draw | None:
    """Examples and distractors for a pair that give nothing away in any language."""
    rng = random.Random(f"{seed} {kind} {pair.item_id}")
    for _ in range(N_DRAWS):
        answers = {pair.answer_id}
        others = []
        for other in rng.sample(pairs, len(pairs)):
            if other.answer_id not in answers:
                answers.add(other.answer_id)
                others.append(other)
        chosen = others[: N_EXAMPLES + N_CHOICES - 1]
        draw = _Draw(kind, pair, tuple(chosen[:N_EXAMPLES]), tuple(chosen[N_EXAMPLES:]))
        if len(draw.distractors) < N_CHOICES - 1:
            return None
        if all(_fair(draw, language) for language in languages):
            return draw
    return None


def _fair(draw: _Draw, language: str) -> bool:
    """Whether an item gives its answer away neither by what it shows nor by its choices."""
    question = same_text(_question(draw.pair, draw.examples, language))
    pairs = (draw.pair, *draw.distractors)
    choices = [_folded(pair.answer, language) for pair in pairs]
    contained = any(
        choice in other
        for i, choice in enumerate(choices)
        for j, other in enumerate(choices)
        if i != j
    )
    # A choice that the question shows as another's answer is ruled out by that: show none.
    shown = any(choice in question for choice in choices)
    # Names of months have stems in common by nature, and give nothing away by them.
    stems = draw.kind != "month" and any(
        _shares_stem(draw.pair.asked, pair.answer, language) for pair in pairs
    )
    return not (contained or shown or stems)


def _shares_stem(asked: Name, answer: Name, language: str) -> bool:
    """Whether a name and an answer have a run of letters in common that is long enough to tell."""
    name, other = _folded(asked, language), _folded(answer, language)
    length = STEM_OF_SCRIPT.get(script(language), STEM)
    return any(name[start : start + length] in other for start in range(len(name) - length + 1))


@cache
def _folded(name: Name, language: str) -> str:
    """A name as it is compared."""
    return same_text(_named(name, language))


def _usable(pair: _Pair, languages: Sequence[str]) -> bool:
    """Whether both names are there and well formed in every language."""
    return all(
        name is not None and _well_formed(name, language)
        for language in languages
        for name in (pair.asked(language), pair.answer(language))
    )


def _well_formed(name: str, language: str) -> bool:
    """Whether a name is short, without asides, and in the language's script (emoji are in none).

    >>> _well_formed("Кения", "ru"), _well_formed("Kenya", "ru"), _well_formed("Myanmar (Burma)",
    ...                                                                        "en")
    (True, False, False)
    """
    if not name or len(name.split()) > 4 or re.search(r"[()\[\],،、，/→]", name):
        return False
    letters = [character for character in name if character.isalpha()]
    return all(_script_word(character) in _SCRIPT_WORDS[script(language)] for character in letters)


def _script_word(character: str) -> str:
    """First word of a character's Unicode name: LATIN, CYRILLIC, CJK, ..."""
    return unicodedata.name(character, "").partition(" ")[0].partition("-")[0]


_SCRIPT_WORDS: Mapping[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "Latn": "LATIN MODIFIER",
        "Cyrl": "CYRILLIC",
        "Grek": "GREEK",
        "Armn": "ARMENIAN",
        "Geor": "GEORGIAN",
        "Hebr": "HEBREW",
        "Arab": "ARABIC",
        "Ethi": "ETHIOPIC",
        "Deva": "DEVANAGARI",
        "Beng": "BENGALI",
        "Guru": "GURMUKHI",
        "Gujr": "GUJARATI",
        "Taml": "TAMIL",
        "Telu": "TELUGU",
        "Knda": "KANNADA",
        "Mlym": "MALAYALAM",
        "Sinh": "SINHALA",
        "Thai": "THAI",
        "Laoo": "LAO",
        "Mymr": "MYANMAR",
        "Khmr": "KHMER",
        "Jpan": "CJK HIRAGANA KATAKANA",
        "Kore": "HANGUL",
        "Hans": "CJK",
        "Hant": "CJK",
    }.items()
}


# --- names -------------------------------------------------------------------------------------


@cache
def _pairs(kind: str) -> list[_Pair]:
    """All pairs of a kind, made once: their names are compared over and over."""
    if kind == "flag":
        return [
            _Pair(f"flag-{c}", f"country-{c}", c, _constant(_flag(c)), _territory(c))
            for c in FLAG_COUNTRIES.split()
        ]
    if kind == "continent":
        return [
            _Pair(f"continent-{c}", f"country-{c}", region, _territory(c), _territory(region))
            for region, countries in COUNTRIES_OF.items()
            for c in countries.split()
        ]
    if kind == "city":
        return [
            _Pair(f"city-{c}", f"country-{c}", c, _city(zone), _territory(c))
            for zone, c in CITIES.items()
        ]
    if kind == "month":
        return [
            _Pair(f"month-{m:02}", f"month-{m:02}", str(m), _month((m - 2) % 12 + 1), _month(m))
            for m in range(1, 13)
        ]
    return [
        _Pair(f"emoji-{ord(e[0]):x}", f"emoji-{ord(e[0]):x}", e, _constant(e), _emoji(e))
        for e in EMOJI
    ]


def _flag(country: str) -> str:
    """Flag emoji of a country: its ISO code in regional indicators.

    >>> _flag("KE")
    '🇰🇪'
    """
    return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in country)


def _constant(text: str) -> Name:
    return lambda language: text


def _territory(code: str) -> Name:
    return lambda language: _clean(_cldr(language)["territories"].get(code))


def _month(number: int) -> Name:
    return lambda language: _clean(_months(language).get(number))


def _city(zone: str) -> Name:
    """Exemplar city of a zone; CLDR leaves out what the zone's own name says in Latin script."""

    def name(language: str) -> str | None:
        city = _cldr(language)["time_zones"].get(zone, {}).get("city")
        if city is None and script(language) == "Latn":
            city = zone.rpartition("/")[2].replace("_", " ")
        return _clean(city)

    return name


def _emoji(emoji: str) -> Name:
    return lambda language: _clean(_emoji_names(language).get(emoji))


def _clean(name: str | None) -> str | None:
    return None if name is None else normalise(name.replace("\u200b", "").replace("\xa0", " "))


@cache
def _cldr(language: str) -> Mapping:
    """CLDR data of a language as Babel ships it."""
    from babel import localedata

    return localedata.load(language)


@cache
def _months(language: str) -> dict[int, str]:
    """Names of the months as they stand alone, by number.

    Read from the data as stored: through `Locale.months`, Babel 2.18 gives the months of another
    language that was looked up before (its issue 1234).
    """
    from babel.localedata import Alias

    months = _cldr(language)["months"]
    alone = months["stand-alone"]["wide"]
    stored = alone[1] if isinstance(alone, tuple) else {} if isinstance(alone, Alias) else alone
    return {number: stored.get(number, name) for number, name in months["format"]["wide"].items()}


@cache
def _emoji_names(language: str) -> dict[str, str]:
    """Names of emoji, as the package emoji has them from CLDR."""
    import emoji

    emoji.config.load_language(language)
    return {
        character: entry[language].strip(":").replace("_", " ")
        for character, entry in emoji.EMOJI_DATA.items()
        if language in entry
    }
