"""The command line: parse, one public call, print. Each command does its own heavy imports."""
