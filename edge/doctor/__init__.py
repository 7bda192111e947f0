"""What `edge doctor` looks at: each check tries a thing and says what it found and what mends it.

Nothing here imports NumPy, OpenCV or a runtime into this process: they may be missing, or crash it. What may do so runs
in `probes`, each in a process of its own.
"""
