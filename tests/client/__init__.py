"""Tests of the site's side."""
