"""A made-up shop, drawn from scratch, to try similar-picture search on."""
