//! The application as a script.
