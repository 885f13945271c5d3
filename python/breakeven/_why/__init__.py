"""`breakeven why`: what records a program, and what shows the report. docs/design/why.md tells the whole way."""
