"""How the weights of fieldwise-nano are made: text, pools, worlds, rows, training, evaluation.

Nothing here is needed to use the model; the package users install is `fieldwise_nano`.
Run the modules from the `nano/` folder: `python -m nano_recipe.prepare --help`.
"""
