"""Start a command without root's right to read everything, so that file modes count in tests run by root.

Called as a script: ``python ordinary.py PROGRAM ARGUMENT…`` gives the rights up and becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import sys

START = (sys.executable, __file__, sys.executable, "-m", "hub")
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2

if __name__ == "__main__":
    if os.geteuid() == 0:
        for right in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if ctypes.CDLL(None, use_errno=True).prctl(_PR_CAPBSET_DROP, right, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")
    os.execv(sys.argv[1], sys.argv[1:])
