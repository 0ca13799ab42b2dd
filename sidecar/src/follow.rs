//! Opens the engine that the document names, and keeps what may change live: application settings, topic id.
