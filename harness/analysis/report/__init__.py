"""From findings to pages: what is said, in which order, and how it is written down."""
