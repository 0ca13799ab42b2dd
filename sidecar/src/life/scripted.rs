//! A scripted life.
