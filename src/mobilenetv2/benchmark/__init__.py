"""How fast a model runs here, in the engine and in other runtimes (`measure`).

Nothing is imported here: a worker's process must load no more than its runtime needs, because that is measured too.
"""
