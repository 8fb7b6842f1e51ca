"""The commands of `polycom`: each parses its arguments and calls the room that does the work."""
