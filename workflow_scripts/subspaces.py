"""Language subspaces, from the activation files of all languages."""
