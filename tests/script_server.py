"""Runs scripts as ``python SCRIPT ARGUMENTS`` would, without importing the library for each.

It is imported once, and every script runs in a fork.  A line of JSON asks for one, and is answered
by its exit code.
"""

import json
import os
import runpy
import sys

import pyro_gtm.experiments.cli  # noqa: F401  (what every script takes longest to import)

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()

# The child goes on here, and ends as its script does.
os.chdir(asked["folder"])
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for descriptor, path in ((1, asked["output"]), (2, asked["errors"])):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
sys.argv = [asked["script"], *asked["arguments"]]
sys.path[0] = os.path.dirname(asked["script"])
runpy.run_path(asked["script"], run_name="__main__")
