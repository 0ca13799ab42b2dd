//! The listening sockets.
