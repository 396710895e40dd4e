"""The command line's subcommands, one file each. Only these modules import the package `reports`."""
