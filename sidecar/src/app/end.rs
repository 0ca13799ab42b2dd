//! What an end means.
