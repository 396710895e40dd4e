"""Controls: rows that frame a comparison. They are shown, and they cannot win it."""

CLEAN_CONTROL = "clean_probe"
"""The control that reports ask for where methods see clean validation samples: what these find by themselves."""

CONTROLS = ("oracle", "random", "none", CLEAN_CONTROL)
