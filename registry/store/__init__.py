"""Stores, one module per aggregate. Functions run in the transaction of their `connection`."""
