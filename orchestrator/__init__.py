import sys

# ``import httpx`` would import its own command line, and with it rich, click and pygments, which take longer
# to load than httpx. Python refuses a module that is None here, and httpx does without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
