"""The built-in methods, one family a module; the registry imports them from here."""
