"""The page of a study, `report.html`: verdicts, table, figures, lens explorer, language map.

One file that asks no host for anything: arrays, figures and the charts' library are in it.
"""
