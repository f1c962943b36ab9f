"""Language models: found, loaded, run in packed rows, read by the logit lens."""
