"""BioHama: a routed network of modules with working memory, hierarchical attention and Hebbian fast weights.

Convention. `model.py` holds the integrated network, one file beside it each of its mechanisms; `tasks.py` its three task
families with their ground truth; `training.py` its recipe.
"""
