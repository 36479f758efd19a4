//! One producer, one consumer, frames in shared memory that can be revoked until they are taken.
