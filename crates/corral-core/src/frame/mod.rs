//! What frames are made of.

pub mod parts;
