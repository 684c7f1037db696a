"""What can be known before `up` by asking and reading only: one file for each subject."""
