"""Is this boot good? Runs the machine's own checks once and confirms or rejects the running slot."""
