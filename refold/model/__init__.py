"""Values and rules without I/O: messages, queries, states, handlers, and how they are stored."""
