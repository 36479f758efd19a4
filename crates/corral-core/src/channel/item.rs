//! What is sent: bytes, or a block that was filled before.

#[cfg(doc)]
use super::layout;
use super::{ChannelError, block_region, whole_region};
use crate::frame::parts;
use crate::heap::{BlockRef, Heap, HeapError, Pages};
use crate::identity;
use crate::region::{Memory, Region};
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
    let lengths: Vec<usize> = contents.iter().map(|part| part.len()).collect();
    let Some((places, size)) = parts::plan(&lengths) else {
        return Err(HeapError::Full { wanted: u64::MAX, limit: "no block can be that large" }.into());
    };
    let block = heap.alloc_as(me, size, Pages::All)?;
    step!("pack.allocated");
    let filled = fill(heap, block, &places, contents);
    if let Err(damage) = filled {
        heap.free_as(me, block.reference)?;
        return Err(damage);
    }
    Ok(block)
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

/// Writes an item's number into its block (INV-CHANNEL-4).
pub(super) fn number(heap: &Heap, reference: u64, number: u64) -> Result<(), ChannelError> {
    let region = whole_region(heap, reference)?;
    // Relaxed: the block is ours; the change of its owner orders this before.
    region.word(number_at(&region)?)?.store(number, Ordering::Relaxed);
    Ok(())
}

/// The number in an item's block, which may have been freed in part: its size is gone then, its content is not.
pub(super) fn number_of(heap: &Heap, reference: u64) -> Result<u64, ChannelError> {
    let region = whole_region(heap, reference)?;
    // Relaxed: whoever asks has acquired the owner word after it was the channel's.
    Ok(region.word(number_at(&region)?)?.load(Ordering::Relaxed))
}

/// Behind the head of the parts: it ends on an odd multiple of 8, and the first part begins on a multiple of 64.
fn number_at(region: &Region) -> Result<usize, ChannelError> {
    // Relaxed: as above.
    let count = region.half(size_of::<u32>())?.load(Ordering::Relaxed);
    let head = usize::try_from(count).ok().and_then(parts::head_bytes);
    head.ok_or(ChannelError::Damaged("the number of an item's parts"))
}
