"""A task from outside the package: predict the mean colour of an image. `docs/extend.md` walks through it.

model.py     the network, and how it is built from its file
data.py      what a sample is
run.py       settings, recipe, the run's parts, and the registration
inference.py what is done with a trained model
"""
