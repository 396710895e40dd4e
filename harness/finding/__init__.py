"""Label errors in a user's own data: which labels are probably wrong, how many, and which detector to trust."""
