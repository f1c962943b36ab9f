"""Write the readout of a model: its final norm and unembedding, all that the lens needs."""

from pathlib import Path

from isogloss.program import artifact_parser, run, say
from isogloss.store.checkpoints import unpack_organism
from isogloss.store.local import Store
from isogloss.study.keys import artifact_name, readout_identity
from isogloss.study.settings import check_weights, source_of


def main() -> None:
    parser = artifact_parser(__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    args = parser.parse_args()

    identity = readout_identity(args.settings)
    name = artifact_name("readout", args.settings["slug"], "", "", identity)
    store = Store.of(args.store, args.sharing, say)
    if store.missing({args.settings["slug"]: name}):
        from isogloss.model.load import load_ends
        from isogloss.model.readout import write_readout

        unpack_organism(args.settings, store, args.cache)
        ends = load_ends(source_of(args.settings), args.cache)
        check_weights(args.settings, args.cache)
        write_readout(ends, store.path(name), identity)
        store.keep(name)


if __name__ == "__main__":
    run(main)
