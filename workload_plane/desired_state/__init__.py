"""The plane's memory of what it was last told to run: format, file, and the rule of acceptance."""
