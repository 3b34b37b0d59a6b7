"""Models of other papers on one task, beside ours: see ``patch_walk.py``."""
