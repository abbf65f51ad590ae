"""Tests of the learning code."""
