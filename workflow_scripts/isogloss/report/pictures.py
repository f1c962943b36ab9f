"""The figures of a study as the page shows them: in it, with their files beside it."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

from isogloss.figures.places import Placed, figures_of_model, matrix_figures, scale_figure
from isogloss.figures.titles import Figure, figure_files
from isogloss.report.budget import Budget
from isogloss.report.captions import Caption, read_caption
from isogloss.results import StudyResults


@dataclass(frozen=True)
class Picture:
    """A figure of a model on a dataset as the page shows it.

    Attributes:
        figure: which of the list.
        model: name of the model as it is; "" where it shows all.
        slug: of the model.
        dataset: name of the dataset; "" where it shows all.
        source: of the image: its bytes as a data URI, or its path beside the page.
        size: of the image, as attributes: nothing moves when it is loaded.
        links: format and path, relative to the page.
        caption: that its program wrote.
    """

    figure: Figure
    model: str
    slug: str
    dataset: str
    source: str
    size: Markup
    links: Sequence[tuple[str, str]]
    caption: Caption


def pictures(study: StudyResults, budget: Budget) -> Iterator[Picture]:
    """Every figure of the study: model by model, then those of all models, then of all datasets."""
    config = study.config
    for dataset in config.datasets:
        for slug, model in study.model_names.items():
            for placed in figures_of_model(config, slug, dataset):
                yield _picture(study, budget, placed, model)
        if dataset in config.questions:
            yield _picture(study, budget, scale_figure(dataset))
    for placed in matrix_figures(config):
        yield _picture(study, budget, placed)


def _picture(study: StudyResults, budget: Budget, placed: Placed, model: str = "") -> Picture:
    files = figure_files(placed.stem, study.config.figures.formats)
    figure, slug, dataset = placed.figure, placed.model, placed.dataset
    name = f"the picture of {figure.title}, {slug or 'all models'} on {dataset or 'all datasets'}"
    source, size = "", Markup("")
    if not files[0].endswith(".pdf"):  # which no page shows as a picture
        uri, size = _embedded(study.folder / files[0])
        source = uri if budget.holds(len(uri), name) else quote(files[0])
    links = [(f.rpartition(".")[2].upper(), quote(f)) for f in files if not f.endswith(".rst")]
    caption = read_caption(study.folder / f"{placed.stem}.rst")
    return Picture(figure, model, slug, dataset, source, size, links, caption)


def _embedded(path: Path) -> tuple[str, Markup]:
    """An image as a data URI, and its size as attributes: nothing moves when it is shown.

    Bitmaps are packed as WebP without loss, in less than half the bytes of the figures' PNG.
    """
    if path.suffix == ".svg":
        return _data_uri("image/svg+xml", path.read_bytes()), Markup("")
    packed = io.BytesIO()
    with Image.open(path) as image:
        size = Markup('width="{}" height="{}"').format(*image.size)
        image.convert("RGB").save(packed, "WEBP", lossless=True, method=2, quality=20)
    return _data_uri("image/webp", packed.getvalue()), size


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def in_reading_order(pictures: Sequence[Picture]) -> list[tuple[str, str, str, list[Picture]]]:
    """Dataset, name and title of each figure, with what every model has of it side by side."""
    groups: dict[tuple[str, str, str], list[Picture]] = {}
    for picture in pictures:
        key = (picture.dataset, picture.figure.name, picture.figure.title)
        groups.setdefault(key, []).append(picture)
    return [(*key, group) for key, group in groups.items()]
