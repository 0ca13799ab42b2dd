//! The process on one page: its tasks, their owners, and the order in which it ends.
