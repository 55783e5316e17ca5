"""The REST API of pipelines and their runs, behind the gateway at /triggers/."""
