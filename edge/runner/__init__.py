"""`edge run`: many cameras in one process."""
