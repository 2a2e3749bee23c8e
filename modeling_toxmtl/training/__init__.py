"""Trains, evaluates, calibrates and publishes models."""
