"""World model: four levels of recurrent latents, each with a clock of its own, on a corpus whose hidden hierarchy is known.

`model` the network, `losses` what it learns by, `lexicon` and `corpus` the text, `observer` the exact ideal observer,
`measures` and `weight` what is measured, `training` the recipe, `calibration` the truths that scans must find.
"""
