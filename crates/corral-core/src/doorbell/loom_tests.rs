//! Every interleaving of sleeper and ringer, by loom.
