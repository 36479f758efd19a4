//! What a frame carries: bytes in the ring, or a block of the heap.

use crate::frame::parts;
use crate::heap::{BlockRef, Heap, HeapError};
use crate::identity;
use crate::region::{Damaged, Region};
use crate::ring::layout::{BLOCK, BLOCK_BODY_BYTES, INLINE};
use crate::ring::{Frame, Label, Producer, Ring};

use super::{LinkError, Tag};

/// No body is copied through a ring beyond this, however large the ring: copies that take long are made with the GIL released,
/// into a block.
pub const MAX_INLINE_BYTES: usize = 64 << 10;

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Bytes, at most [`ParentLink::max_inline_bytes`](super::ParentLink::max_inline_bytes) of them.
    Bytes(&'a [u8]),
    /// A block that this process owns. It is the frame's from now on.
    Block(u64),
}

impl Body<'_> {
    /// Bytes that a block takes up in a ring.
    pub const BLOCK_BYTES: usize = BLOCK_BODY_BYTES;
}

/// What has come.
#[derive(Debug)]
pub enum Arrived<'a> {
    /// Bytes, still in the ring: copy them.
    Bytes(InRing<'a>),
    /// A block, by now this process's own.
    Block(BlockRef),
}

/// The bytes of a frame, where they are.
#[derive(Debug)]
pub struct InRing<'a> {
    ring: &'a Ring<Region>,
    frame: Frame,
}

impl InRing<'_> {
    /// How many there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.frame.body_bytes
    }

    /// Copies them; `bytes` must be as long.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it is longer.
    #[inline]
    pub fn copy_to(&self, bytes: &mut [u8]) -> Result<(), Damaged> {
        self.ring.read_body(&self.frame, bytes)
    }
}

/// Sends one frame; its position, or None while there is no room.
#[inline]
pub(super) fn push(
    producer: &mut Producer<Region>,
    tag: Tag,
    body: Body<'_>,
) -> Result<Option<u64>, LinkError> {
    let Tag { kind, id, aux } = tag.checked()?;
    match body {
        Body::Bytes(bytes) => {
            if bytes.len() > max_inline_bytes(producer.ring()) {
                return Err(LinkError::Unfit("these bytes are too many for a ring"));
            }
            Ok(producer.push(Label { kind, flags: INLINE, id, aux }, bytes)?)
        }
        Body::Block(reference) => {
            let mut words = [0_u8; BLOCK_BODY_BYTES];
            let (first, second) = words.split_at_mut(8);
            first.copy_from_slice(&reference.to_le_bytes());
            second.copy_from_slice(&identity::current().to_le_bytes());
            Ok(producer.push(Label { kind, flags: BLOCK, id, aux }, &words)?)
        }
    }
}

/// The longest body that travels in this ring itself.
pub(super) fn max_inline_bytes(ring: &Ring<Region>) -> usize {
    ring.max_body_bytes().min(MAX_INLINE_BYTES)
}

/// What is in a frame; a block in it becomes this process's.
#[inline]
pub(super) fn open<'a>(heap: &Heap, ring: &'a Ring<Region>, frame: Frame) -> Result<Arrived<'a>, LinkError> {
    match frame.label.flags {
        INLINE => Ok(Arrived::Bytes(InRing { ring, frame })),
        BLOCK => {
            let (reference, owner) = block_body(ring, &frame)?;
            Ok(Arrived::Block(heap.adopt(reference, owner)?))
        }
        _ => Err(LinkError::Damaged("a frame of no known kind")),
    }
}

/// Reference and owner of the block that a frame carries.
pub(super) fn block_body(ring: &Ring<Region>, frame: &Frame) -> Result<(u64, u64), Damaged> {
    let mut words = [0_u8; BLOCK_BODY_BYTES];
    ring.read_body(frame, &mut words)?;
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let (first, second) = words.split_at(8);
    Ok((word(first), word(second)))
}

/// Copies a payload and its buffers, once, into a new block that can be sent (and read as parts).
///
/// # Errors
///
/// The heap's, when it is full.
pub fn pack(heap: &Heap, parts: &[&[u8]]) -> Result<BlockRef, HeapError> {
    let too_large = HeapError::Full { wanted: u64::MAX, limit: "no block can be that large" };
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let Some((places, size)) = parts::plan(&lengths) else { return Err(too_large) };
    let block = heap.alloc(size)?;
    let filled = fill(block, &places, parts);
    if let Err(damage) = filled {
        heap.free(block.reference)?;
        return Err(damage.into());
    }
    Ok(block)
}

fn fill(block: BlockRef, places: &[parts::Part], parts: &[&[u8]]) -> Result<(), Damaged> {
    use crate::region::Memory as _;
    // SAFETY: INV-REGION-1: the block was allocated just now, and the caller's heap keeps it mapped beyond this call.
    let region = unsafe { Region::new(block.ptr, block.len) };
    let region = region.ok_or(Damaged("a block is not aligned"))?;
    region.write(0, &parts::head(places))?;
    for (place, part) in places.iter().zip(parts) {
        region.write(place.offset, part)?;
    }
    Ok(())
}
