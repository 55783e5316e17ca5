"""The one import name of functions, and what the platform's programs share with them."""
