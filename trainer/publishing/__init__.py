"""Networks to published models and to other formats, and other programs' networks."""
