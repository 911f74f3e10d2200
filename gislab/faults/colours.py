"""A colour for each fault, by which it is known in every plot; no two have the same."""

# Okabe and Ito's colours, told apart by colour-blind readers ("Color Universal Design", 2008)
GREEN, SKY, BLUE = "#009E73", "#56B4E9", "#0072B2"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
BROWN = "#7A5230"  # not theirs, but as dark as none of them
# Paul Tol's "muted" ("Colour Schemes", 2021), for the faults of the database and the network
INDIGO, CYAN, TEAL, FOREST, OLIVE = "#332288", "#88CCEE", "#44AA99", "#117733", "#999933"
SAND, ROSE, WINE, MAUVE = "#DDCC77", "#CC6677", "#882255", "#AA4499"
NIGHT, ASH = "#000000", "#BBBBBB"
# his "light" and "vibrant", for the others
MOSS, PEACH, PEAR, PALE, MINT, STRAW = ("#AAAA00", "#EE8866", "#BBCC33", "#77AADD", "#44BB99",
                                        "#EEDD88")
COBALT, NAVY, TANGERINE, PINK, RED = "#0077BB", "#004488", "#EE7733", "#EE3377", "#CC3311"
