"""The site's side: what a sensor site runs, trusts and lets out."""
