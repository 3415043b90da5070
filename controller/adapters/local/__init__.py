"""This machine: its clock, its files, its cache, its command line tools."""
