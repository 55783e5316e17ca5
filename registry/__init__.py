"""ML state behind HTTP: datasets, feature sets, runs, models, aliases, events, predictions."""
