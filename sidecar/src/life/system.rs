//! The life as the kernel tells it.
