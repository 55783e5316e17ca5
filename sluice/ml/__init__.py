"""What the machine-learning functions share: the registry's client, request fields, responses,
tables, scores.

`errors fields responses runtime_config registry` need the standard library only; `table signature
metrics featureset` need numpy, `session` needs onnxruntime: a function that imports them lists them
in its requirements.txt.

Values are NamedTuples where `predict` makes them: to define a frozen dataclass takes 0.5 ms of each
start of a replica, a NamedTuple 0.1, and `predict` defines ten.
"""
