"""The verbs of `releasectl`, by what they are about. Each module has a function `declare`."""
