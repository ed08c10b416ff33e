"""User code: called in a thread, on a loop or in a process, and interrupted there."""
