"""Colours, markers and dashes of all figures, on paper and on the page."""

# Okabe and Ito (2008), told apart with any colour vision; their yellow is too pale for lines.
BLACK, GREY, PALE = "#000000", "#6b6b6b", "#c9c9c9"
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY = "#CC79A7", "#56B4E9"
CYCLE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", "--", "-.", ":")
# Lightness rises evenly: the same order in grey print.
SEQUENTIAL, DIVERGING = "cividis", "PuOr_r"
