"""How fast models run on this machine, and how sure that is. `run.py` goes through it all."""
