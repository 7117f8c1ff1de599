"""Prints the command that follows a marker in README.md: readme_command.py tests."""

import re
import sys
from pathlib import Path

marker = f"<!-- ci: {sys.argv[1]} -->"
found = re.findall(
    rf"^{re.escape(marker)}\n+```\w*\n(.*?)^```", Path("README.md").read_text(), re.M | re.S
)
if len(found) != 1 or not found[0].strip():
    sys.exit(f"README.md has {len(found)} commands behind {marker}")
print(found[0], end="")
