"""Views: the rows of states that are kept, in the shape that a reader needs."""
