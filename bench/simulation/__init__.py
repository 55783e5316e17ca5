"""Scaling policies replayed in fake time: arrivals, policies, and the world they meet in."""
