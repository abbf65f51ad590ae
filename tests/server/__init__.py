"""Tests of the owner's side."""
