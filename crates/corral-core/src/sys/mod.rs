//! The only place that calls the system.
