"""What the documentation says is true: commands, links, figures, examples."""
