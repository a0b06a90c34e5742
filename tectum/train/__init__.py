"""One trainer for every model: a task (what to learn), a configuration (for how long, how fast) and a folder to write to."""
