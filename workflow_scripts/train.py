"""Train an organism: a tiny model with a known degree of sharing between its languages."""

from functools import partial
from pathlib import Path

from isogloss.model.sources import organism_identity
from isogloss.program import artifact_parser, progress, run, say
from isogloss.store.checkpoints import unpack_organism
from isogloss.store.local import Store
from isogloss.study.keys import artifact_name
from isogloss.study.settings import source_of


def main() -> None:
    parser = artifact_parser(__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    args = parser.parse_args()

    source = source_of(args.settings)
    name = artifact_name("organism", source.slug, "", "", organism_identity(source))
    store = Store.of(args.store, args.sharing, say)
    if store.missing({source.slug: name}):
        from isogloss.organisms.checkpoint import train_checkpoint  # torch takes seconds to import

        bar = partial(progress, label=f"train {source.slug}", unit="step")
        train_checkpoint(source, store.path(name), bar)
        store.keep(name)
    unpack_organism(args.settings, store, args.cache)


if __name__ == "__main__":
    run(main)
