//! Waiting for many things at once: rings, descriptors and kicks.
