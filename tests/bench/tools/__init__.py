"""How each tool is run: one small module for each, all behind `Tool`."""
