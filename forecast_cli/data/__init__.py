"""Reading gridded fields, cutting them into windows, and writing results."""
