"""The recipe: everything a run is told, in one YAML file.

Each section is named after its room. Unknown keys are refused with the nearest known name, and all problems
are reported together, each with its line and dotted key. `key=value` overrides on the command line use
the same dotted keys.
"""

from fieldwise.recipe.loading import load_recipe, save_recipe
from fieldwise.recipe.model import Recipe
from fieldwise.recipe.places import missing_places

__all__ = ["Recipe", "load_recipe", "missing_places", "save_recipe"]
