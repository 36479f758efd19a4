//! The shared heap of a process tree: one nameless mapping, blocks that carry their owner.
