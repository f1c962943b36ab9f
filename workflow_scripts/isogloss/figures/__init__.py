"""Figures: each function takes the datasets of results and gives a figure, its numbers, a caption.

One module a family of figures; `style` holds what they share. Nothing here computes a result: a
number in a figure is a variable of a dataset, and stands in the CSV beside the figure.
"""
