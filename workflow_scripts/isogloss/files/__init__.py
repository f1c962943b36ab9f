"""Files: written whole or not at all, sealed with digests, read back checked."""
