"""The report of a comparison as one page that needs neither network nor scripts."""
