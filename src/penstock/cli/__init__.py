"""The command line: `penstock --help` lists the commands, cli/main.py says where each one is."""
