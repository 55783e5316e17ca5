"""The REST API: parse, authorise, call one object, render."""
