"""The parts of scripts/demo.py: what is run (cases), how (runner), and what is made of it (results, table, chart)."""
