// Gives a library that has no source of its own something to archive.
