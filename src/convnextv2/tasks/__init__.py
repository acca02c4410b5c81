"""One folder a task: its settings, recipes, model, run, and what is done with a trained model.

`run.py` of each registers the task (`convnextv2.runs.spec.register_task`); nothing else lists them.
"""
