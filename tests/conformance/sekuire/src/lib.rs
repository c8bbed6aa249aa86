//! Nothing to build: only the sources of the dependency are wanted.
