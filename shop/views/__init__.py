"""What the shop answers: parse, one call, reply."""
