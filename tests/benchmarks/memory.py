"""Memory of an extraction as the questions grow tenfold."""

from benchmarks import ours
from benchmarks.material import SHORT, Setting
from benchmarks.measuring import Job, Worker, tell
from benchmarks.table import Row

GROWTH = 1.1
FEW, MANY = (200, 20), (2000, 200)


def prepare(setting: Setting, n: int) -> Job:
    tool, language = ours.loaded(setting), setting.languages(SHORT)[0]
    items = tool.items(SHORT, language, n)

    def job() -> None:
        tool.extract(setting.scratch, items, tool.ask(items, SHORT, language), language)

    return job


def compare(setting: Setting) -> list[Row]:
    """Peak memory of the process, once each: it hardly varies."""
    rows = []
    for sizes in (FEW, MANY):
        n = setting.n(*sizes)
        tell(f"memory: extraction of {n} items")
        with Worker("isogloss", prepare, setting=setting, n=n) as we:
            rows.append((n, we.run()))
    (few, small), (many, large) = rows
    return [
        Row(
            f"{words} of extraction, {many} against {few} items, {setting.name(SHORT)}",
            f"{few} items", f"{getattr(large, field) / 1e9:.3g} GB",
            f"{getattr(small, field) / 1e9:.3g} GB",
            getattr(large, field) / getattr(small, field),
            bar=GROWTH if field == "peak" else None, at_least=False,
            note="one run each, in processes of their own; items repeat where there are not so "
            "many",
        )
        for field, words in (("peak", "peak memory"), ("above", "memory beyond the model"))
    ]  # fmt: skip
