"""The subcommands: each module adds its options to the parser and does the work, importing torch only then."""
