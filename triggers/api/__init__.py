"""The REST API of the triggers, behind the gateway at /triggers/."""
