import subprocess
import sys

PROCESS = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
