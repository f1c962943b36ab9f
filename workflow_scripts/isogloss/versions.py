"""Versions of what the costly rules compute: part of every key, and of every manifest's name.

These rules take no code as input, since a comment must not cost accelerator hours. Raise a
version when its numbers change; a golden test fails where that was forgotten.
"""

SCHEMA_VERSION = 2
EXTRACTION_VERSION = 3  # 3: LongRoPE and dynamic NTK by the length of a question alone
LENS_VERSION = 1
VECTORS_VERSION = 3
STEERING_VERSION = 3  # 3: norm ratio at the selected setting, of its own folds
READOUT_VERSION = 2
LEXICON_VERSION = 1  # of what is computed from the lexicon: raise it when any item changes
WORLD_VERSION = 1  # of what is computed from a synthetic world: raise it when any item changes
ORGANISM_VERSION = 1  # of how organisms are made and trained
