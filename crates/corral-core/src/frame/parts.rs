//! The layout of a block that carries several byte strings: a payload and its out-of-band buffers.
//!
//! ```text
//! u32 magic | u32 count | count x (u64 offset, u64 length) | part 0 | ... | part count-1
//! ```
//!
//! Little-endian; offsets count from the block's first byte and are multiples of 64, so that an array in a part is aligned
//! for every vector instruction.

/// The first word of a block with parts.
pub const MAGIC: u32 = u32::from_le_bytes(*b"part");
/// What the first byte of every part is aligned to.
pub const ALIGNMENT: usize = 64;

const HEAD_BYTES: usize = 8;
const RECORD_BYTES: usize = 16;

/// Where a part lies in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From the block's first byte.
    pub offset: usize,
    /// In bytes.
    pub length: usize,
}

impl Part {
    /// The offset after the last byte.
    #[must_use]
    pub fn end(self) -> usize {
        self.offset.saturating_add(self.length)
    }
}

/// Where parts of these lengths go, and the size of the block they need; None when that is beyond any size.
#[must_use]
pub fn plan(lengths: &[usize]) -> Option<(Vec<Part>, usize)> {
    u32::try_from(lengths.len()).ok()?;
    let mut end = head_bytes(lengths.len())?;
    let mut parts = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let offset = end.checked_next_multiple_of(ALIGNMENT)?;
        end = offset.checked_add(length)?;
        parts.push(Part { offset, length });
    }
    Some((parts, end))
}

/// The bytes that stand at the beginning of a block with these parts.
#[must_use]
pub fn head(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + RECORD_BYTES * parts.len());
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(parts.len()).unwrap_or(u32::MAX).to_le_bytes());
    for part in parts {
        bytes.extend_from_slice(&(part.offset as u64).to_le_bytes());
        bytes.extend_from_slice(&(part.length as u64).to_le_bytes());
    }
    bytes
}

/// Reads the parts of a block, each checked to lie inside it and behind the head; an error says what is wrong.
///
/// # Errors
///
/// What can't be: the block is no block with parts, or damaged.
pub fn read(block: &[u8]) -> Result<Vec<Part>, &'static str> {
    let (magic, rest) = take_u32(block).ok_or("a block too short for parts")?;
    let (count, mut records) = take_u32(rest).ok_or("a block too short for parts")?;
    if magic != MAGIC {
        return Err("a block without parts");
    }
    let count = usize::try_from(count).map_err(|_| "the number of parts")?;
    let head = head_bytes(count).filter(|&head| head <= block.len());
    let head = head.ok_or("more parts than the block can hold")?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (offset, after) = take_u64(records).ok_or("a part's record")?;
        let (length, after) = take_u64(after).ok_or("a part's record")?;
        records = after;
        parts.push(checked_part(offset, length, head, block.len()).ok_or("a part outside its block")?);
    }
    Ok(parts)
}

fn checked_part(offset: u64, length: u64, head: usize, size: usize) -> Option<Part> {
    let offset = usize::try_from(offset).ok()?;
    let length = usize::try_from(length).ok()?;
    let end = offset.checked_add(length)?;
    let fits = offset >= head && offset.is_multiple_of(ALIGNMENT) && end <= size;
    fits.then_some(Part { offset, length })
}

/// Bytes at the beginning of a block with so many parts that say where they are.
#[must_use]
pub fn head_bytes(count: usize) -> Option<usize> {
    count.checked_mul(RECORD_BYTES)?.checked_add(HEAD_BYTES)
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_one_that_is_agreed() {
        let (parts, size) = plan(&[3, 0, 100]).unwrap();
        let offsets: Vec<_> = parts.iter().map(|part| part.offset).collect();
        assert_eq!((offsets, size), (vec![64, 128, 128], 228));
        let head = head(&parts);
        assert_eq!(head.len(), 8 + 3 * 16);
        assert_eq!(head[..24], *b"part\x03\0\0\0\x40\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
    }

    #[test]
    fn lengths_beyond_any_size_have_no_plan() {
        assert_eq!(plan(&[usize::MAX]), None);
        assert_eq!(plan(&[usize::MAX / 2, usize::MAX / 2, 100]), None);
    }

    #[test]
    fn a_block_without_parts_is_told_from_a_damaged_one() {
        assert_eq!(read(b""), Err("a block too short for parts"));
        assert_eq!(read(b"hello, world"), Err("a block without parts"));
        assert_eq!(read(b"part\xff\xff\xff\xff"), Err("more parts than the block can hold"));
        assert_eq!(read(b"part\0\0\0\0"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn what_is_planned_is_read_again(lengths in proptest::collection::vec(0_usize..1000, 0..20)) {
            let (parts, size) = plan(&lengths).unwrap();
            let mut block = head(&parts);
            block.resize(size, 0xaa);
            let mut end = block.len().min(HEAD_BYTES + RECORD_BYTES * parts.len());
            for (part, length) in parts.iter().zip(&lengths) {
                prop_assert!(part.offset >= end && part.offset.is_multiple_of(ALIGNMENT));
                prop_assert_eq!(part.length, *length);
                end = part.end();
            }
            prop_assert_eq!(end, size);
            prop_assert_eq!(read(&block), Ok(parts));
        }

        #[test]
        fn damaged_heads_never_lead_outside(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0_u8..12) {
            if let Some(head) = bytes.first_chunk_mut::<8>() {
                *head = [b'p', b'a', b'r', b't', count, 0, 0, 0];
            }
            for part in read(&bytes).unwrap_or_default() {
                prop_assert!(part.offset >= 8 + 16 * usize::from(count) && part.end() <= bytes.len());
            }
        }
    }
}
