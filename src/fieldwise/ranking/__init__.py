"""How well passages are found: judged questions, figures with intervals, gates, and the choice of settings.

`reading` makes judged sets of what people have, `measure` searches and scores, `gates` judges, `tune` chooses.
"""
