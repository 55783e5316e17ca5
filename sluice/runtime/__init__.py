"""What serves one function: loads its handler and answers HTTP calls with it."""
