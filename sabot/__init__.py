"""Sabot: streaming SQL; shared vocabulary and the Python client."""
