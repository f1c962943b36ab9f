"""Variants: how far languages agree, and how far each agrees with itself under other wordings."""

from pathlib import Path

from isogloss.files.activation_file import open_scores, open_states
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.variant_states import variant_similarity
from isogloss.measures.variants import variants
from isogloss.program import analysis_parser, run
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument(
        "manifests", nargs="+", type=Path, help="of the activation files, one per wording, in order"
    )
    args = parser.parse_args()

    settings = args.settings
    files = [list(read_manifest(manifest).values()) for manifest in args.manifests]
    scores = [open_scores(of_variant) for of_variant in files]
    results = variants(scores, settings["variants"], settings["score"], settings["confidence"])
    states = [open_states(of_variant, settings["pooling"]) for of_variant in files]
    results = results.merge(variant_similarity(states, settings["confidence"]))
    write_netcdf(results, args.output, settings, inputs=args.manifests)


if __name__ == "__main__":
    run(main)
