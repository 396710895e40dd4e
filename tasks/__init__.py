"""The built-in tasks, one family a module; modules with a leading underscore hold what families share."""
