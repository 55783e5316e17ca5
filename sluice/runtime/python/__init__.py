"""Handlers written in Python: their forms, how they run, what they return."""
