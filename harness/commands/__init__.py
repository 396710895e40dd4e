"""The command line's subcommands, one file each; they alone know the reports."""
