"""The work that a call starts (threads, jobs, tasks, child processes), and the hooks that notice it."""
