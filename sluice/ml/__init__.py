"""What the machine-learning functions share: the registry's client, request fields, answers,
tables, scores.

`errors fields responses runtime_config transport registry` need the standard library alone;
`table signature metrics featureset` need numpy, `session` needs onnxruntime: the function that
imports them requires them.

Their values are NamedTuples: a frozen dataclass takes 0.5 ms of every start of a replica to be
made, one of these 0.1, and `predict` makes ten.
"""
