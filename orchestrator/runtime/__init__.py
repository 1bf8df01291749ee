"""Machinery that knows no grid word: clock, daemon loop, HTTP, security, SQL, processes, files."""
