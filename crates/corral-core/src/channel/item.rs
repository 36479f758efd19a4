//! What is sent: bytes, or a block that was filled before.

use super::{ChannelError, block_region, layout};
use crate::frame::parts;
use crate::heap::{BlockRef, Heap, HeapError};
use crate::identity;
use crate::region::Memory;
use crate::steps::step;
use crate::sync::Ordering;

/// An item on its way in.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// At most [`layout::MAX_INLINE_BYTES`] bytes.
    Bytes(&'a [u8]),
    /// A block of [`pack`] that this process owns; the channel's once it is sent.
    Block(BlockRef),
}

impl Item<'_> {
    /// What it counts against a bound in bytes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Block(block) => block.len as u64,
        }
    }
}

/// Copies a payload and its buffers, once, into a new block that can be sent (and read as parts).
///
/// # Errors
///
/// The heap's, when it is full.
pub fn pack(heap: &Heap, contents: &[&[u8]]) -> Result<BlockRef, ChannelError> {
    pack_as(identity::current(), heap, contents)
}

pub(super) fn pack_as(me: u64, heap: &Heap, contents: &[&[u8]]) -> Result<BlockRef, ChannelError> {
    let too_large = HeapError::Full { wanted: u64::MAX, limit: "no block can be that large" };
    let lengths: Vec<usize> = contents.iter().map(|part| part.len()).collect();
    let planned = parts::plan(&lengths).and_then(|(places, end)| Some((places, trailer_at(end)?)));
    let Some((places, trailer)) = planned else { return Err(too_large.into()) };
    let size = trailer.checked_add(layout::TRAILER_BYTES).ok_or(ChannelError::Heap(too_large))?;
    let block = heap.alloc_as(me, size, crate::heap::Pages::All)?;
    step!("pack.allocated");
    let filled = fill(heap, block, &places, contents);
    if let Err(damage) = filled {
        heap.free_as(me, block.reference)?;
        return Err(damage);
    }
    Ok(block)
}

fn trailer_at(end: usize) -> Option<usize> {
    end.checked_next_multiple_of(8)
}

fn fill(
    heap: &Heap,
    block: BlockRef,
    places: &[parts::Part],
    contents: &[&[u8]],
) -> Result<(), ChannelError> {
    let region = block_region(heap, block.reference)?;
    region.write(0, &parts::head(places))?;
    for (place, part) in places.iter().zip(contents) {
        region.write(place.offset, part)?;
    }
    Ok(())
}

/// Writes an item's number behind its content (INV-CHANNEL-4).
pub(super) fn number(heap: &Heap, reference: u64, number: u64) -> Result<(), ChannelError> {
    let region = block_region(heap, reference)?;
    let trailer = region.length().checked_sub(layout::TRAILER_BYTES);
    let trailer = trailer.ok_or(ChannelError::Unfit("the block is no item"))?;
    // Relaxed: the block is ours; the change of its owner orders this before.
    region.word(trailer)?.store(number, Ordering::Relaxed);
    Ok(())
}

/// The number behind an item's content.
pub(super) fn number_of(heap: &Heap, reference: u64) -> Result<u64, ChannelError> {
    let region = block_region(heap, reference)?;
    let trailer = region.length().checked_sub(layout::TRAILER_BYTES);
    let trailer = trailer.ok_or(ChannelError::Damaged("an item's block is too short"))?;
    // Relaxed: whoever asks has acquired the owner word after it was the channel's.
    Ok(region.word(trailer)?.load(Ordering::Relaxed))
}
