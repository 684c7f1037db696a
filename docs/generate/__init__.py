"""Makes the pages and pictures of docs/ that say what the program does, from the program itself."""
